// Random lookups: what the mirror answers, and what `ip route get` does. Where the kernel has a choice that depends on
// more than the tables (legs by a seeded hash, equal IPv6 routes by turns), one of the possible answers is right.
import type { Host } from "../../src/lab/host.ts";
import {
  LINE_WORDS,
  NH_BOUND,
  NH_DEAD,
  NH_GATEWAY,
  NH_LINK,
  NH_NHID,
  NH_OIF,
  NH_PREFSRC,
  NH_SLOW,
  NH_SRC,
  NH_TYPE,
} from "../../src/netbase/layout.ts";
import { RouteRow } from "../../src/netbase/rows.ts";
import { AF_INET, AF_INET6 } from "../../src/netlink/constants.ts";
import { formatAddress, parseAddress } from "../../src/wire/address.ts";
import type { Mirrored } from "./mirrored.ts";
import type { Random } from "../random.ts";

/** What becomes of packets to routes that refuse: the kernel's errors. */
const ERRORS: Record<number, string> = {
  0: "Network is unreachable",
  6: "Invalid argument",
  7: "No route to host",
  8: "Permission denied",
};

interface Query {
  text: string;
  family: number;
  words: Int32Array;
  tos: number;
}

export function queries(random: Random, n: number): Query[] {
  return Array.from({ length: n }, () => {
    const six = random.chance(45);
    const [a, b, c] = [random.below(5), random.below(4), random.below(18)];
    const text = six
      ? random.pick([
          `fd00:0:0:${a}::${c}`,
          `fd${10 + a}::${c}`,
          `fd${10 + a}:${b}::${b}`,
          `fd${10 + a}:${b}:${c}::1`,
          `2001:db8::${c}`,
        ])
      : random.pick([
          `10.0.${a}.${c}`,
          `10.${64 + a}.${b}.${c}`,
          `10.${64 + a}.0.${b}`,
          `10.${64 * b}.${c}.1`,
          `10.0.${a}.255`,
          `192.0.2.${c}`,
        ]);
    const { family, words } = parseAddress(text)!;
    return {
      text,
      family,
      words,
      tos: !six && random.chance(20) ? random.pick([0x10, 0x08, 0x04, 0x20, 0x30, 0xb8]) : 0,
    };
  });
}

interface Answer {
  type?: string;
  gateway?: string;
  via?: { host: string };
  dev: string;
  prefsrc?: string;
}

/** The kernel's answers, one a query: its result as `ip -j` has it, or the error it gave. */
function kernelAnswers(host: Host, asked: readonly Query[]): (Answer | string)[] {
  const lines = asked.map(({ text, tos }) => `route get ${text}${tos ? ` tos 0x${tos.toString(16)}` : ""}`);
  const { stdout, stderr } = Bun.spawnSync(host.command("ip", "-j", "-N", "-d", "-force", "-batch", "-"), {
    stdin: Buffer.from(`${lines.join("\n")}\n`),
  });
  const results = stdout
    .toString()
    .split("\n")
    .filter((line) => line.startsWith("["))
    .map((line) => JSON.parse(line)[0]);
  const errors = new Map<number, string>();
  let said = "";
  for (const line of stderr.toString().split("\n")) {
    const failed = /^Command failed -:(\d+)/.exec(line);
    if (failed) errors.set(Number(failed[1]) - 1, said);
    else if (line.startsWith("RTNETLINK answers: ")) said = line.slice(19);
  }
  return asked.map((_, i) => errors.get(i) ?? results.shift()!);
}

/** Where the mirror would send a packet: the record that a net Worker finds; 0 if there is no route. */
function recordFor({ reader }: Mirrored, { family, words: [w0, w1, w2, w3], tos }: Query): number {
  const four = family === AF_INET;
  const rib = four ? reader.rib4 : reader.rib6;
  const nh = four ? reader.fib4.lookup(w0!) : reader.fib6.lookup(w0!, w1!, w2!, w3!);
  if (nh === 0 || (reader.words[nh + NH_TYPE]! & (NH_SLOW | NH_DEAD)) === 0) return nh;
  const row = rib.match(w0!, w1!, w2!, w3!, tos);
  return row === 0 ? 0 : rib.record(row);
}

/** All that the kernel might choose from, as "type via dev", for a query. */
function ourAnswers(mirrored: Mirrored, query: Query): string[] {
  const { reader } = mirrored;
  const { words } = reader;
  const first = recordFor(mirrored, query);
  const records = [first];
  if (query.family === AF_INET6) {
    // Equal routes that are no legs of one: the kernel takes turns. A throw may be one of them.
    const [w0, w1, w2, w3] = query.words as unknown as [number, number, number, number];
    const { rib6 } = reader;
    const [a, b] = [new RouteRow(), new RouteRow()];
    rib6.match(w0, w1, w2, w3, 0, 0, (chosen, verdict) => {
      if (verdict === "dead") return;
      rib6.load(chosen, a);
      for (const row of rib6.rowsOf(a)) {
        rib6.load(row, b);
        if (b.table === a.table && b.priority === a.priority) records.push(rib6.record(row));
      }
    });
  } else if (first !== 0) {
    // Several default routes: the kernel prefers one whose gateway answers, and remembers which (fib_select_default).
    const { rib4 } = reader;
    const [a, b] = [new RouteRow(), new RouteRow()];
    rib4.load(rib4.match(query.words[0]!, 0, 0, 0, query.tos), a);
    let [priority, tos] = [a.priority, 0];
    for (const row of a.dstLen === 0 && a.legs.n === 1 ? rib4.rowsOf(a) : []) {
      rib4.load(row, b);
      if (b.table !== a.table || (b.tos !== 0 && b.tos !== query.tos) || !rib4.usable(row)) continue;
      if (b.priority > priority && b.tos === tos) {
        if (tos === 0) break;
        continue;
      }
      [priority, tos] = [b.priority, b.tos];
      if (b.scope === a.scope && b.type === 1) records.push(rib4.record(row));
    }
  }
  return records.flatMap((record) => {
    if (record === 0) return [ERRORS[0]!];
    const type = words[record + NH_TYPE]! & 0xff;
    if (type >= 6) return [ERRORS[type] ?? `type ${type}`];
    return Array.from({ length: words[record + NH_TYPE]! >>> 16 }, (_, i) => record + i * LINE_WORDS)
      .filter((leg) => words[leg + NH_BOUND] !== -1)
      .map((leg) => {
        const via = words[leg + NH_LINK]! & 0xff;
        const gateway = via === 0 ? "-" : formatAddress(via, words, leg + NH_GATEWAY);
        // What is our own goes through lo; for anycast that depends on who made the route.
        const dev = type === 2 || (type === 4 && query.family === AF_INET6) ? 1 : words[leg + NH_OIF]!;
        const named = (words[leg + NH_TYPE]! & NH_PREFSRC) !== 0;
        // What goes to an address of our own comes from it; IPv6's source is chosen elsewhere, and each leg of an IPv6
        // route may name one of its own, of which the kernel tells the first.
        // Of several routes by one nexthop object it tells that of whichever was looked up first: the object's cached
        // answer is shared (rt6_get_pcpu_route takes it from the fib6_nh).
        const own = words[record + NH_TYPE]! >>> 16 === 1 && words[record + NH_NHID] === 0;
        const one = query.family === AF_INET || own;
        const source = (named && one) || (query.family === AF_INET && type !== 2);
        return `type ${type} via ${type === 2 ? "-" : gateway} dev ${dev} src ${source ? formatAddress(query.family, words, leg + NH_SRC) : "?"}`;
      });
  });
}

/** "type 1 via 10.0.0.2 dev 3 src 10.0.0.1": the way, the interface and the source of an answer; errors have none. */
const parts = (answer: string) =>
  /^(type .* dev (\S+)) src (\S+)$/.exec(answer)?.slice(1) ?? [answer, "", ""];

/** Compares `n` lookups; returns what differs. */
export function lookupDifferences(mirrored: Mirrored, host: Host, random: Random, n: number): string[] {
  const asked = queries(random, n);
  const { links, addrs } = mirrored.reader;
  const names = new Map(links.all().map((link) => [link.name, link.ifindex]));
  const own = new Set(addrs.all().map((a) => `${a.ifindex} ${formatAddress(a.family, a.local)}`));
  const agree = (a: string, b: string): boolean => {
    const [wayA, devA, srcA] = parts(a);
    const [wayB, devB, srcB] = parts(b);
    if (wayA !== wayB) return false;
    // Without an address of its own an interface borrows one, of the first interface in an order that nobody is told.
    return srcA === srcB || srcA === "?" || !(own.has(`${devA} ${srcA}`) || own.has(`${devB} ${srcB}`));
  };
  return kernelAnswers(host, asked).flatMap((kernel, i) => {
    const query = asked[i]!;
    const ours = ourAnswers(mirrored, query);
    let theirs = kernel;
    if (typeof theirs !== "string") {
      const { type = "1", gateway, via, dev, prefsrc = "0.0.0.0" } = theirs;
      const ifindex = type === "4" && query.family === AF_INET6 ? 1 : names.get(dev);
      theirs = `type ${type} via ${gateway ?? via?.host ?? "-"} dev ${ifindex} src ${prefsrc}`;
    }
    if (ours.some((one) => agree(one, theirs))) return [];
    return [
      `lookup ${query.text} tos ${query.tos}: ours ${[...new Set(ours)].join(" or ")}; kernel ${theirs}`,
    ];
  });
}
