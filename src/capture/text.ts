// Captured frames as lines for people: `netd capture` without -w. It reads the pcapng that the daemon sends, whose blocks
// are as pcapng.ts writes them; for anything more than a first look there are tcpdump and Wireshark.
//   12:34:56.789012 in  10.77.0.2:40000 > 10.77.0.1:8080 tcp 74: verdict=to_client client=3 pid=77 uid=0
import { formatIPv4, formatIPv6, formatLladdr } from "../wire/address.ts";

const PACKET = 6;
const OPT_COMMENT = 1;
const EPB_FLAGS = 2;
const PORTED: Record<number, string> = { 6: "tcp", 17: "udp", 33: "dccp", 132: "sctp", 136: "udplite" };
const OTHERS: Record<number, string> = { 1: "icmp", 2: "igmp", 58: "icmp6" };

const padded = (bytes: number): number => (bytes + 3) & ~3;

/** Who talks to whom in a frame. */
function flow(frame: DataView): string {
  if (frame.byteLength < 14) return "runt";
  let at = 12;
  let type = frame.getUint16(at);
  let tags = "";
  while ((type === 0x8100 || type === 0x88a8) && frame.byteLength >= at + 6) {
    tags += `vlan ${frame.getUint16(at + 2) & 0xfff} `;
    at += 4;
    type = frame.getUint16(at);
  }
  at += 2;
  const v4 = (o: number) => formatIPv4(frame.getInt32(o, true));
  const v6 = (o: number) => formatIPv6([0, 4, 8, 12].map((i) => frame.getInt32(o + i, true)));
  const ends = (src: string, dst: string, protocol: number, l4: number, six: boolean): string => {
    const name = PORTED[protocol] ?? OTHERS[protocol] ?? `protocol ${protocol}`;
    if (!(protocol in PORTED) || l4 < 0 || frame.byteLength < l4 + 4) return `${tags}${src} > ${dst} ${name}`;
    const end = (address: string, o: number) => `${six ? `[${address}]` : address}:${frame.getUint16(o)}`;
    return `${tags}${end(src, l4)} > ${end(dst, l4 + 2)} ${name}`;
  };
  if (type === 0x0800 && frame.byteLength >= at + 20) {
    const later = (frame.getUint16(at + 6) & 0x1fff) !== 0;
    const l4 = later ? -1 : at + (frame.getUint8(at) & 15) * 4;
    return ends(v4(at + 12), v4(at + 16), frame.getUint8(at + 9), l4, false) + (later ? " fragment" : "");
  }
  if (type === 0x86dd && frame.byteLength >= at + 40)
    return ends(v6(at + 8), v6(at + 24), frame.getUint8(at + 6), at + 40, true);
  if (type === 0x0806 && frame.byteLength >= at + 28)
    return frame.getUint16(at + 6) === 1
      ? `${tags}arp who-has ${v4(at + 24)} tell ${v4(at + 14)}`
      : `${tags}arp ${v4(at + 14)} is-at ${formatLladdr(new Uint8Array(frame.buffer, frame.byteOffset + at + 8, 6))}`;
  return `${tags}ethertype 0x${type.toString(16).padStart(4, "0")}`;
}

/** One line of an enhanced packet block's body. */
function line(body: DataView): string {
  const micros = body.getUint32(4, true) * 4294967296 + body.getUint32(8, true);
  const time = new Date(Math.floor(micros / 1000));
  const clock = [time.getHours(), time.getMinutes(), time.getSeconds()].map((n) => `${n}`.padStart(2, "0"));
  const captured = body.getUint32(12, true);
  const frame = new DataView(body.buffer, body.byteOffset + 20, captured);
  let comment = "";
  let direction = 0;
  for (let at = 20 + padded(captured); at + 4 <= body.byteLength; ) {
    const code = body.getUint16(at, true);
    const length = body.getUint16(at + 2, true);
    if (code === 0) break;
    if (code === OPT_COMMENT) comment = Buffer.from(body.buffer, body.byteOffset + at + 4, length).toString();
    if (code === EPB_FLAGS) direction = body.getUint32(at + 4, true) & 3;
    at += 4 + padded(length);
  }
  const way = ["   ", "in ", "out"][direction] ?? "?";
  const fraction = `${micros % 1e6}`.padStart(6, "0");
  return `${clock.join(":")}.${fraction} ${way} ${flow(frame)} ${body.getUint32(16, true)}: ${comment}\n`;
}

/** Turns pcapng, in pieces as they come, into lines. */
export class PcapngText {
  private rest = Buffer.alloc(0);

  /** The lines of the packets that are whole with this piece. */
  push(piece: Uint8Array): string {
    this.rest = Buffer.concat([this.rest, piece]);
    let text = "";
    let at = 0;
    for (const { rest } = this; rest.length - at >= 12; ) {
      const length = rest.readUInt32LE(at + 4);
      if (rest.length - at < length) break;
      if (rest.readUInt32LE(at) === PACKET)
        text += line(new DataView(rest.buffer, rest.byteOffset + at + 8, length - 12));
      at += length;
    }
    this.rest = this.rest.subarray(at);
    return text;
  }
}
