// A DNS zone out of its file (RFC 1035 section 5), as answers that lie ready: SOA, NS, A, AAAA, CNAME, MX and TXT records,
// one a line; $ORIGIN and $TTL; comments from `;` on.
import { parseIPv4, parseIPv6 } from "../../wire/address.ts";

export const TYPES: Readonly<Record<string, number>> = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  MX: 15,
  TXT: 16,
  AAAA: 28,
};

interface Entry {
  readonly name: string;
  readonly type: number;
  readonly ttl: number;
  readonly data: Buffer;
  /** a CNAME's */
  readonly target: string | undefined;
}

const u16 = (value: number): Buffer => Buffer.from([value >>> 8, value & 255]);
const u32 = (value: number): Buffer => Buffer.concat([u16(value >>> 16), u16(value & 0xffff)]);

/** "www.example.org." as labels. */
const labels = (name: string): Buffer =>
  Buffer.concat([
    ...name
      .split(".")
      .filter((label) => label !== "")
      .map((label) => Buffer.from([label.length, ...Buffer.from(label)])),
    Buffer.of(0),
  ]);

function dataOf(type: string, words: string[], absolute: (name: string) => string): Buffer {
  const [first = ""] = words;
  switch (type) {
    case "A":
      return Buffer.from(Int32Array.of(parseIPv4(first)!).buffer);
    case "AAAA":
      return Buffer.from(parseIPv6(first)!.buffer);
    case "MX":
      return Buffer.concat([u16(Number(first)), labels(absolute(words[1]!))]);
    case "TXT":
      return Buffer.concat(words.map((text) => Buffer.from([text.length, ...Buffer.from(text)])));
    case "SOA": {
      const numbers = words.slice(2).map((word) => u32(Number(word)));
      return Buffer.concat([labels(absolute(first)), labels(absolute(words[1]!)), ...numbers]);
    }
    default:
      return labels(absolute(first));
  }
}

export class Zone {
  readonly origin: string;
  private readonly entries = new Map<string, Entry[]>();
  private readonly soa: Entry | undefined;

  constructor(text: string) {
    let origin = ".";
    let ttl = 3600;
    let last = "";
    const absolute = (name: string): string => {
      if (name === "@") return origin;
      return (name.endsWith(".") ? name : `${name}.${origin}`.replace("..", ".")).toLowerCase();
    };
    for (const line of text.split("\n")) {
      const words = [...line.replace(/;(?=([^"]*"[^"]*")*[^"]*$).*/, "").matchAll(/"([^"]*)"|\S+/g)].map(
        (match) => match[1] ?? match[0],
      );
      if (words.length === 0) continue;
      if (words[0] === "$ORIGIN") origin = words[1]!.toLowerCase();
      else if (words[0] === "$TTL") ttl = Number(words[1]);
      else {
        last = /^\s/.test(line) ? last : absolute(words.shift()!);
        const own = /^\d+$/.test(words[0]!) ? Number(words.shift()) : ttl;
        if (words[0] === "IN") words.shift();
        const type = words.shift()!;
        if (TYPES[type] === undefined) throw new Error(`${line.trim()}: type ${type} is not known`);
        const target = type === "CNAME" ? absolute(words[0]!) : undefined;
        const data = dataOf(type, words, absolute);
        const entry = { name: last, type: TYPES[type], ttl: own, data, target };
        this.entries.set(last, [...(this.entries.get(last) ?? []), entry]);
        if (type === "SOA") this.soa = entry;
      }
    }
    this.origin = this.soa?.name ?? origin;
  }

  /** Whether there is such a name, and what it has of a type; a CNAME is followed within the zone. */
  find(name: string, type: number): { known: boolean; found: readonly Buffer[]; soa: Buffer | undefined } {
    const entries = this.entries.get(name);
    const found: Buffer[] = [];
    const alias = entries?.find((entry) => entry.target !== undefined && type !== TYPES["CNAME"]);
    if (alias) found.push(record(alias), ...this.find(alias.target!, type).found);
    else for (const entry of entries ?? []) if (entry.type === type) found.push(record(entry));
    return { known: entries !== undefined, found, soa: this.soa && record(this.soa) };
  }
}

const record = ({ name, type, ttl, data }: Entry): Buffer =>
  Buffer.concat([labels(name), u16(type), u16(1), u32(ttl), u16(data.length), data]);
