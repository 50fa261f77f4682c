// What a run shows while it lasts, a second at a time: a table that repaints itself on a terminal, a line a second into a
// pipe, one JSON object a second with --json; and at the end the summary. The daemon and the lab make the samples.
import { coloured, print, printable, style } from "./out.ts";
import { align, type Column, grouped } from "./table.ts";
import type { NeighView, RouteView } from "./view.ts";

export interface Echo {
  sent: number;
  received: number;
  lost: number;
}

/** The state at one moment; counters run from the start. */
export interface Sample {
  /** milliseconds, from any beginning that stays */
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
  /** the first few, read when they are shown: a large table takes milliseconds... */
  neighbours: () => NeighView[];
  routes: () => RouteView[];
  /** ...of how many */
  total: { neighbours: number; routes: number };
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
  seconds: number;
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

const wayColumns: Column<Way>[] = [
  { title: " ", cell: (row) => row.name },
  { title: "PACKETS/S", cell: (row) => grouped(row.packets).padStart(12), right: true },
  { title: "BITS/S", cell: (row) => bits(row.bits).padStart(13), right: true },
  { title: "PACKETS", cell: (row) => grouped(row.total).padStart(15), right: true },
];

interface Dropped {
  reason: string;
  count: number;
  perSecond: number;
}

const dropColumns: Column<Dropped>[] = [
  { title: "DROPPED", cell: ({ reason }) => reason.padEnd(16) },
  { title: "PACKETS/S", cell: ({ perSecond }) => grouped(perSecond).padStart(12), right: true },
  { title: "PACKETS", cell: ({ count }) => grouped(count).padStart(15), right: true },
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

const FIRST: Sample = {
  t: 0,
  rxPackets: 0,
  rxBytes: 0,
  txPackets: 0,
  txBytes: 0,
  drops: {},
  mode: "",
  neighbours: () => [],
  routes: () => [],
  total: { neighbours: 0, routes: 0 },
};

export class Live {
  private readonly json: boolean;
  private readonly tty: boolean;
  private readonly style = style(coloured());
  private readonly title: string;
  private next: readonly string[] = [];
  private start = performance.now();
  private last: Sample = FIRST;
  private painted = 0; // lines of the table that stands on the terminal

  /** @param title what runs, such as "netd on eth0" @param tty whether the table repaints itself in place */
  constructor(json: boolean, title = "netd", tty = process.stdout.isTTY === true) {
    this.json = json;
    this.title = title;
    this.tty = tty;
  }

  /** All runs now: the clock starts. `lines` are for the reader to try; below the table, or first where there is none. */
  hints(lines: readonly string[]): void {
    this.start = performance.now();
    this.next = lines;
    if (!this.json && !this.tty) this.write(`${this.title}\n${lines.join("\n")}\n`);
  }

  /** Shows one sample. Once nobody reads stdout any more, the run is asked to end as by SIGTERM. */
  update(now: Sample): void {
    const rates = this.rates(now);
    if (this.json) this.write(jsonLine(now, rates));
    else if (this.tty) this.paint(this.screen(now, rates));
    else this.write(this.line(now, rates));
    this.last = now;
  }

  /** The run's last word: the totals, and what could not be taken away again. */
  summary(end: Sample & { leftovers: readonly string[] }): void {
    const { echo, rxPackets: rx, txPackets: tx, drops, mode, leftovers } = end;
    if (this.json) {
      this.write(`${JSON.stringify({ echo, rx, tx, drops, mode, leftovers })}\n`);
      return;
    }
    const lines = [
      "",
      `received ${grouped(rx)} packets, sent ${grouped(tx)}, queue mode ${mode}`,
      ...(echo ? [echoText(echo)] : []),
      `dropped: ${dropsText(drops)}`,
      leftovers.length > 0
        ? `${this.style.alarm("left behind")}: ${leftovers.join(", ")}`
        : "nothing left behind",
    ];
    this.write(`${lines.join("\n")}\n`);
  }

  private write(text: string): void {
    const end = () => void process.emit("SIGTERM", "SIGTERM");
    void print(text).then(
      (read) => read || end(),
      (error: Error) => {
        console.error(`netd: ${error.message}`);
        process.exitCode = 1;
        end();
      },
    );
  }

  /** Since the sample before; the first sample's are since the start of the run. */
  private rates(now: Sample): Rates {
    const { last } = this;
    const ms = last === FIRST ? performance.now() - this.start : now.t - last.t;
    const seconds = Math.max(ms, 1) / 1000;
    return {
      seconds,
      rxPps: (now.rxPackets - last.rxPackets) / seconds,
      rxBps: ((now.rxBytes - last.rxBytes) * 8) / seconds,
      txPps: (now.txPackets - last.txPackets) / seconds,
      txBps: ((now.txBytes - last.txBytes) * 8) / seconds,
    };
  }

  private get elapsed(): string {
    return `${Math.round((performance.now() - this.start) / 1000)} s`;
  }

  private paint(lines: string[]): void {
    const up = this.painted > 0 ? `\x1b[${this.painted}A\r\x1b[J` : "";
    this.painted = lines.length;
    // Without automatic wrapping a long line is cut, and the count of lines stays right.
    this.write(`${up}\x1b[?7l${lines.join("\n")}\n\x1b[?7h`);
  }

  private screen(now: Sample, rates: Rates): string[] {
    const { style, last } = this;
    const height = process.stdout.rows || 24;
    const few = height < 40 ? 5 : 12;
    const block = <Row>(columns: readonly Column<Row>[], rows: readonly Row[], all: number, more: string) => {
      if (rows.length === 0) return [];
      const rest = all - Math.min(rows.length, few);
      const lines = [...align(columns, rows.slice(0, few), style), ""];
      if (rest > 0) lines.splice(-1, 0, style.faint(`and ${grouped(rest)} more: netd show ${more}`));
      return lines;
    };
    const both: Way[] = [
      { name: "received", packets: rates.rxPps, bits: rates.rxBps, total: now.rxPackets },
      { name: "sent", packets: rates.txPps, bits: rates.txBps, total: now.txPackets },
    ];
    const dropped = Object.entries(now.drops)
      .filter(([, count]) => count > 0)
      .map(([reason, count]): Dropped => {
        return { reason, count, perSecond: (count - (last.drops[reason] ?? 0)) / rates.seconds };
      });
    const { echo, total } = now;
    const local = (route: RouteView) => Number(route.table === "local");
    const routes = now.routes().toSorted((a, b) => local(a) - local(b)); // those that lead somewhere first
    const lines = [
      `${style.strong(printable(this.title))}  ${this.elapsed}, queue mode ${now.mode}`,
      "",
      ...block(wayColumns, both, both.length, "queues"),
      ...(echo ? [echoText(echo), ""] : []),
      ...block(dropColumns, dropped, dropped.length, "drops"),
      ...block(neighColumns, now.neighbours(), total.neighbours, "neighs"),
      ...block(routeColumns, routes, total.routes, "routes"),
    ];
    // What to try stays in sight on a small terminal; the lists give way.
    const room = Math.max(8, height - 1 - this.next.length);
    return [...lines.slice(0, room), ...this.next].slice(0, height - 1);
  }

  private line(now: Sample, rates: Rates): string {
    const dropped = Object.values(now.drops).reduce((sum, count) => sum + count, 0);
    const parts = [
      this.elapsed.padStart(6),
      `rx ${grouped(rates.rxPps)} p/s ${bits(rates.rxBps)}`,
      `tx ${grouped(rates.txPps)} p/s ${bits(rates.txBps)}`,
      ...(now.echo ? [echoText(now.echo)] : []),
      `drops ${grouped(dropped)}`,
      `mode ${now.mode}`,
      `neighbours ${grouped(now.total.neighbours)}`,
      `routes ${grouped(now.total.routes)}`,
    ];
    return `${parts.join("  ")}\n`;
  }
}

/** One sample as an object: counters, rates, and how many neighbours and routes there are. */
function jsonLine({ t, total, ...rest }: Sample, { seconds: _, ...rates }: Rates): string {
  const whole = Object.fromEntries(Object.entries(rates).map(([name, rate]) => [name, Math.round(rate)]));
  return `${JSON.stringify({ t: t / 1000, ...rest, ...whole, ...total })}\n`; // rows are functions: left out
}
