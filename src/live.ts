// What a run shows while it lasts, a second at a time: a table that repaints itself on a terminal, a line a second into a
// pipe, one JSON object a second with --json; and at the end the summary. The daemon and the lab make the samples.
import { print, printable, type Style } from "./out.ts";
import { type Column, grouped, table } from "./table.ts";
import type { NeighView, RouteView } from "./view.ts";

export interface Echo {
  sent: number;
  received: number;
  lost: number;
}

/** The state at one moment; counters run from the start. */
export interface Sample {
  /** milliseconds since the start */
  t: number;
  rxPackets: number;
  rxBytes: number;
  txPackets: number;
  txBytes: number;
  /** by reason; reasons at zero may be left out */
  drops: Record<string, number>;
  /** "zerocopy", "copy" or "skb" */
  mode: string;
  /** what the lab's own traffic has seen */
  echo?: Echo;
  /** the first few... */
  neighbours: NeighView[];
  routes: RouteView[];
  /** ...of how many, where there are more */
  total?: { neighbours: number; routes: number };
}

/** The last word of a run. `rx` and `tx` are packets. */
export interface Summary {
  echo?: Echo;
  rx: number;
  tx: number;
  drops: Record<string, number>;
  mode: string;
  /** what could not be taken away again; empty when all is well */
  leftovers: string[];
}

export interface LiveOptions {
  json: boolean;
  /** stdout is a terminal that can be repainted */
  tty: boolean;
  style: Style;
  /** what runs, such as "netd on nd0 (lab)" */
  title: string;
  /** lines for "try next" */
  hints: readonly string[];
  /** lines of the terminal; 24 if not given */
  rows?: () => number | undefined;
}

/** Bits a second with a unit: 415900000 -> "415.9 Mbit/s". */
export function bits(perSecond: number): string {
  const units = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"];
  let unit = 0;
  let value = perSecond;
  for (; value >= 999.95 && unit < units.length - 1; unit++) value /= 1000;
  return `${unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

interface Rates {
  rxPps: number;
  rxBps: number;
  txPps: number;
  txBps: number;
}

interface Way {
  name: string;
  packets: number;
  bits: number;
  total: number;
}

const ways: Column<Way>[] = [
  { title: " ", cell: (row) => row.name },
  { title: "PACKETS/S", cell: (row) => grouped(row.packets).padStart(12), right: true },
  { title: "BITS/S", cell: (row) => bits(row.bits).padStart(13), right: true },
  { title: "PACKETS", cell: (row) => grouped(row.total).padStart(15), right: true },
];

const dropColumns: Column<[string, number, number]>[] = [
  { title: "DROPPED", cell: ([reason]) => reason.padEnd(16) },
  { title: "PACKETS/S", cell: ([, , perSecond]) => grouped(perSecond).padStart(12), right: true },
  { title: "PACKETS", cell: ([, count]) => grouped(count).padStart(15), right: true },
];

const neighColumns: Column<NeighView>[] = [
  { title: "NEIGHBOUR", cell: (row) => row.dst.padEnd(16) },
  { title: "DEV", cell: (row) => row.dev },
  { title: "LLADDR", cell: (row) => row.lladdr ?? "-" },
  { title: "STATE", cell: (row) => row.state.join(" ") },
];

const routeColumns: Column<RouteView>[] = [
  { title: "ROUTE", cell: (row) => row.dst.padEnd(16) },
  { title: "DEV", cell: (row) => row.dev },
  { title: "VIA", cell: (row) => row.gateway ?? row.via?.host ?? (row.nexthops ? "several" : "") },
  { title: "TYPE", cell: (row) => row.type },
  { title: "TABLE", cell: (row) => row.table },
];

const echoText = ({ sent, received, lost }: Echo): string =>
  `echo: ${grouped(sent)} sent, ${grouped(received)} received, ${grouped(lost)} lost`;

const dropsText = (drops: Record<string, number>): string =>
  Object.entries(drops)
    .filter(([, count]) => count > 0)
    .map(([reason, count]) => `${reason} ${grouped(count)}`)
    .join(", ") || "none";

export class Live {
  private readonly options: LiveOptions;
  private last: Sample | undefined;
  private painted = 0; // lines of the table that is on the terminal

  constructor(options: LiveOptions) {
    this.options = options;
  }

  private rates(now: Sample): Rates {
    const before = this.last ?? { t: 0, rxPackets: 0, rxBytes: 0, txPackets: 0, txBytes: 0 };
    const seconds = Math.max(now.t - before.t, 1) / 1000;
    return {
      rxPps: (now.rxPackets - before.rxPackets) / seconds,
      rxBps: ((now.rxBytes - before.rxBytes) * 8) / seconds,
      txPps: (now.txPackets - before.txPackets) / seconds,
      txBps: ((now.txBytes - before.txBytes) * 8) / seconds,
    };
  }

  private async screen(now: Sample, { rxPps, rxBps, txPps, txBps }: Rates): Promise<string[]> {
    const { style, title, hints, rows } = this.options;
    const height = rows?.() ?? 24;
    const few = height < 40 ? 5 : 12;
    const seconds = Math.max(now.t - (this.last?.t ?? 0), 1) / 1000;
    const dropped = Object.entries(now.drops)
      .filter(([, count]) => count > 0)
      .map(([reason, count]): [string, number, number] => [
        reason,
        count,
        (count - (this.last?.drops[reason] ?? 0)) / seconds,
      ]);
    let text = `${style.strong(printable(title))}  ${grouped(now.t / 1000)} s, queue mode ${now.mode}\n\n`;
    const add = async <Row>(
      columns: readonly Column<Row>[],
      list: readonly Row[],
      all: number,
      more: string,
    ) => {
      if (list.length === 0) return;
      const shown = list.slice(0, few);
      for await (const piece of table(columns, shown, style)) text += piece;
      if (all > shown.length)
        text += style.faint(`and ${grouped(all - shown.length)} more: netd show ${more}\n`);
      text += "\n";
    };
    const both: Way[] = [
      { name: "received", packets: rxPps, bits: rxBps, total: now.rxPackets },
      { name: "sent", packets: txPps, bits: txBps, total: now.txPackets },
    ];
    await add(ways, both, 2, "queues");
    if (now.echo) text += `${now.echo.lost > 0 ? style.alarm(echoText(now.echo)) : echoText(now.echo)}\n\n`;
    await add(dropColumns, dropped, dropped.length, "drops");
    await add(neighColumns, now.neighbours, now.total?.neighbours ?? now.neighbours.length, "neighs");
    await add(routeColumns, now.routes, now.total?.routes ?? now.routes.length, "routes");
    const lines = text.trimEnd().split("\n");
    const next = hints.length > 0 ? ["", style.strong("Try next"), ...hints.map((hint) => `  ${hint}`)] : [];
    // What to try stays in sight on a small terminal; the lists give way.
    return [...lines.slice(0, Math.max(8, height - 1 - next.length)), ...next].slice(0, height - 1);
  }

  private async line(now: Sample, rates: Rates): Promise<string> {
    const first = this.last ? "" : [this.options.title, ...this.options.hints, ""].join("\n");
    const dropped = Object.values(now.drops).reduce((sum, count) => sum + count, 0);
    const parts = [
      `${(now.t / 1000).toFixed(0).padStart(4)} s`,
      `rx ${grouped(rates.rxPps)} p/s ${bits(rates.rxBps)}`,
      `tx ${grouped(rates.txPps)} p/s ${bits(rates.txBps)}`,
      ...(now.echo ? [echoText(now.echo)] : []),
      `drops ${grouped(dropped)}`,
      `mode ${now.mode}`,
      `neighbours ${grouped(now.total?.neighbours ?? now.neighbours.length)}`,
      `routes ${grouped(now.total?.routes ?? now.routes.length)}`,
    ];
    return `${first}${parts.join("  ")}\n`;
  }

  /** Shows one sample. Returns false once nobody reads stdout any more: time to end the run. */
  async show(now: Sample): Promise<boolean> {
    const rates = this.rates(now);
    let text: string;
    if (this.options.json) {
      const { neighbours, routes, total, t, ...rest } = now;
      const whole = Object.fromEntries(Object.entries(rates).map(([name, rate]) => [name, Math.round(rate)]));
      const counts = { neighbours: neighbours.length, routes: routes.length, ...total };
      text = `${JSON.stringify({ t: t / 1000, ...rest, ...whole, ...counts })}\n`;
    } else if (this.options.tty) {
      const lines = await this.screen(now, rates);
      const up = this.painted > 0 ? `\x1b[${this.painted}A\r\x1b[J` : "";
      this.painted = lines.length;
      // Without automatic wrapping a long line is cut, and the count of lines stays right.
      text = `${up}\x1b[?7l${lines.join("\n")}\n\x1b[?7h`;
    } else text = await this.line(now, rates);
    this.last = now;
    return print(text);
  }

  /** Shows the summary, the run's last word. */
  async end(summary: Summary): Promise<boolean> {
    if (this.options.json) return print(`${JSON.stringify(summary)}\n`);
    const { rx, tx, echo, drops, leftovers, mode } = summary;
    const lines = [
      `received ${grouped(rx)} packets, sent ${grouped(tx)}, queue mode ${mode}`,
      ...(echo ? [echoText(echo)] : []),
      `dropped: ${dropsText(drops)}`,
      leftovers.length > 0 ? `left behind: ${leftovers.join(", ")}` : "nothing left behind",
    ];
    return print(`\n${lines.join("\n")}\n`);
  }
}
