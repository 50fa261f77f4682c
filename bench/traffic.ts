// What bench/filter.ts's filters see: FRAMES frames of each kind, in the order in which they came.
//   bulk   TCP segments of zeroes to port 5555          ping   ICMP echo requests of 98 bytes
//   mixed  web, DNS, IPv6 and ARP, 60 to 1514 bytes: a seeded mix
//   captured   two kernels' own (captured.ts): web over IPv4 and IPv6, names, a bulk transfer, pings, ARP
//
// The bench writes them to files, and its children and the C peer read these:
//   u32 FRAMES | u32 offset of each | u32 length of each | bytes
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { capture } from "./captured.ts";
import { generator } from "./prefixes.ts";

export const FRAMES = 1024;
export const ALIGN = 2;
export const KINDS = ["bulk", "ping", "mixed", "captured"] as const;
export type Kind = (typeof KINDS)[number];

export interface Traffic {
  readonly bytes: Uint8Array;
  /** Frames lie one behind the other, each 2 bytes after a multiple of 16, as net Workers have them. */
  readonly offs: Int32Array;
  readonly lens: Int32Array;
}

export const trafficFile = (kind: Kind): string => join(import.meta.dir, "..", "build", `filter-${kind}.bin`);

function make(kind: Exclude<Kind, "captured">): Uint8Array[] {
  const next = generator(7);
  const random = () => next() >>> 0;
  return Array.from({ length: FRAMES }, () => {
    const dice = kind === "mixed" ? random() % 100 : 0;
    const proto = kind === "ping" ? 1 : dice < 70 ? 6 : 17;
    const six = dice >= 85 && dice < 95;
    const arp = dice >= 95;
    const bytes = new Uint8Array(kind === "ping" ? 98 : kind === "bulk" ? 1066 : 60 + (random() % 1455));
    const view = new DataView(bytes.buffer);
    view.setUint16(12, arp ? 0x0806 : six ? 0x86dd : 0x0800);
    const l4 = six ? 54 : 34;
    if (six) {
      view.setUint32(14, 0x6000_0000);
      view.setUint16(18, bytes.length - 54);
      bytes[20] = proto;
    } else if (!arp) {
      bytes[14] = 0x45;
      view.setUint16(16, bytes.length - 14);
      bytes[23] = proto;
      view.setUint32(26, 0x0a010000 | (random() % 4096));
      view.setUint32(30, 0x0a010203);
    }
    if (proto !== 1 && !arp) {
      view.setUint16(l4, 1024 + (random() % 60000));
      view.setUint16(l4 + 2, kind === "bulk" ? 5555 : proto === 17 ? 53 : random() % 2 ? 80 : 443);
      if (dice % 2) view.setUint32(l4, ((view.getUint32(l4) & 0xffff) << 16) | (view.getUint32(l4) >>> 16));
      bytes[l4 + 12] = 0x50;
    }
    return bytes;
  });
}

/** Makes, or captures, what `read` reads. */
export async function write(kind: Kind): Promise<void> {
  const frames = kind === "captured" ? await capture(FRAMES) : make(kind);
  const offs = new Int32Array(FRAMES);
  let end = 0;
  for (const [i, { length }] of frames.entries()) {
    offs[i] = end + ALIGN;
    end = (offs[i]! + length + 15) & ~15;
  }
  const bytes = new Uint8Array(end);
  for (const [i, frame] of frames.entries()) bytes.set(frame, offs[i]);
  const lens = Int32Array.from(frames, ({ length }) => length);
  const parts = [Uint32Array.of(FRAMES), offs, lens, bytes];
  writeFileSync(trafficFile(kind), Buffer.concat(parts.map((part) => Buffer.from(part.buffer))));
}

export function read(kind: Kind): Traffic {
  const { buffer } = new Uint8Array(readFileSync(trafficFile(kind)));
  return {
    offs: new Int32Array(buffer, 4, FRAMES),
    lens: new Int32Array(buffer, 4 + FRAMES * 4, FRAMES),
    bytes: new Uint8Array(buffer.slice(4 + FRAMES * 8)),
  };
}
