// Reads pcapng as the draft says it, independently of src/capture/pcapng.ts: every block, with its options.
export interface Packet {
  micros: number;
  length: number;
  data: Buffer;
  comment: string;
  direction: number;
}

export interface Pcapng {
  application: string;
  ifname: string;
  packets: Packet[];
  /** by the last statistics block */
  lost: number;
}

/** @throws Error where the bytes are not whole blocks of known kinds */
export function readPcapng(bytes: Buffer): Pcapng {
  const found: Pcapng = { application: "", ifname: "", packets: [], lost: 0 };
  for (let at = 0; at < bytes.length; ) {
    const type = bytes.readUInt32LE(at);
    const length = bytes.readUInt32LE(at + 4);
    if (length % 4 !== 0 || at + length > bytes.length || bytes.readUInt32LE(at + length - 4) !== length)
      throw new Error(`block at ${at} of ${bytes.length}: length ${length}`);
    const body = bytes.subarray(at + 8, at + length - 4);
    const options = (from: number): Map<number, Buffer> => {
      const map = new Map<number, Buffer>();
      for (let o = from; o < body.length; ) {
        const code = body.readUInt16LE(o);
        const size = body.readUInt16LE(o + 2);
        if (code === 0) {
          if (o + 4 !== body.length) throw new Error("bytes behind the options' end");
          break;
        }
        map.set(code, body.subarray(o + 4, o + 4 + size));
        o += 4 + ((size + 3) & ~3);
      }
      return map;
    };
    if (type === 0x0a0d0d0a) {
      if (at !== 0 || body.readUInt32LE(0) !== 0x1a2b3c4d) throw new Error("section");
      found.application = options(16).get(4)!.toString();
    } else if (type === 1) {
      if (body.readUInt16LE(0) !== 1) throw new Error("link type");
      found.ifname = options(8).get(2)!.toString();
    } else if (type === 6) {
      const captured = body.readUInt32LE(12);
      const more = options(20 + ((captured + 3) & ~3));
      found.packets.push({
        micros: body.readUInt32LE(4) * 2 ** 32 + body.readUInt32LE(8),
        length: body.readUInt32LE(16),
        data: body.subarray(20, 20 + captured),
        comment: more.get(1)!.toString(),
        direction: more.get(2)!.readUInt32LE(0),
      });
    } else if (type === 5) found.lost = options(12).get(5)!.readUInt32LE(0);
    else throw new Error(`block type ${type}`);
    at += length;
  }
  return found;
}

/** What tcpdump makes of a file: its lines. @throws Error with its complaint */
export function tcpdump(file: string, ...args: string[]): string[] {
  const child = Bun.spawnSync(["tcpdump", "-n", "-e", "-t", "-r", file, ...args]);
  if (child.exitCode !== 0) throw new Error(`tcpdump -r: ${child.stderr}`);
  return child.stdout.toString().split("\n").slice(0, -1);
}
