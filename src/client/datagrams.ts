// UDP datagrams as they have come: where their payloads lie, whom they are from, and answers in place. Filled by udp.ts from
// a batch of frames; good until the callback that was given them returns.
import { BATCH } from "../link/link.ts";
import { formatIPv4, formatIPv6, isGroup } from "../wire/address.ts";
import { sumBytes, fold } from "../wire/checksum.ts";
import { setDst, setSrc } from "../wire/ether.ts";
import { P_IP, P_L4, P_L4_BYTES, swap16 } from "../wire/packet.ts";
import { pseudoSum } from "../wire/rewrite.ts";
import { putUdp4, putUdp6, type Sum, UDP4_HEAD, UDP6_HEAD } from "../wire/udp.ts";
import type { Frames, Pipe } from "./pipe.ts";

const UDP = 8;
/** Texts of IPv4 addresses that are kept: a power of two. */
const TEXTS = 1024;

/** Own addresses to send from: words of an IPv4 address, of an IPv6 address, and of a link-local one. */
export class Sources {
  four: Int32Array | undefined;
  six: Int32Array | undefined;
  link: Int32Array | undefined;
  private readonly none = new Int32Array(4);

  /** The one to send to the IPv6 address at word `at` from; zeroes where there is none. */
  to6(words: Int32Array, at: number): Int32Array {
    const isLink = (words[at]! & 0xc0ff) === 0x80fe;
    return (isLink ? this.link : this.six) ?? this.link ?? this.none;
  }
}

export class Datagrams {
  n = 0;
  /** Payload `i` is the `len[i]` bytes at `off[i]` of `bytes`; `off[i]` is a multiple of 4. */
  readonly off: Int32Array = new Int32Array(BATCH);
  readonly len: Int32Array = new Int32Array(BATCH);
  readonly bytes: Uint8Array<ArrayBufferLike>;
  readonly words: Int32Array<ArrayBufferLike>;
  private readonly frames: Frames;
  private readonly head: number;
  private readonly sources: Sources;
  private readonly sum: Sum;
  private readonly longest: number;
  private readonly mac0: number;
  private readonly mac1: number;
  /** Of each: which frame it is, and the words of its headers. */
  private readonly frame = new Int32Array(BATCH);
  private readonly ip = new Int32Array(BATCH);
  private readonly udp = new Int32Array(BATCH);
  private readonly texts: string[] = Array<string>(TEXTS).fill("0.0.0.0");
  private readonly known = new Int32Array(TEXTS);

  /** @internal @param mac0 our own link-layer address, bytes 0..3; @param mac1 bytes 4 and 5 */
  constructor(frames: Frames, pipe: Pipe, sources: Sources, sum: Sum, mac0: number, mac1: number) {
    this.frames = frames;
    this.head = pipe.head;
    this.longest = pipe.longest;
    this.mac0 = mac0;
    this.mac1 = mac1;
    this.sources = sources;
    this.sum = sum;
    this.bytes = frames.bytes;
    this.words = frames.words;
  }

  /** @internal Adds the datagram that `p` (wire/packet.ts) says is in frame `i`. False if it is damaged. */
  add(i: number, p: Int32Array): boolean {
    const { words, n } = this;
    const udp = p[P_L4]!;
    const ip = p[P_IP]!;
    const length = swap16(words[udp + 1]!);
    if (length < UDP || length > p[P_L4_BYTES]!) return false;
    const six = this.isSix(ip);
    const field = words[udp + 1]! >>> 16;
    if (field === 0 ? six : !this.isRight(p, udp, length)) return false;
    if (!six && fold(sumBytes(words, ip << 2, (words[ip]! & 15) << 2, 0)) !== 0xffff) return false;
    this.frame[n] = i;
    this.ip[n] = ip;
    this.udp[n] = udp;
    this.off[n] = (udp << 2) + UDP;
    this.len[n] = length - UDP;
    this.n = n + 1;
    return true;
  }

  private isRight(p: Int32Array, udp: number, length: number): boolean {
    p[P_L4_BYTES] = length; // the pseudo header's: what IP carries beyond it is padding
    return fold(this.sum(udp << 2, length, pseudoSum(this.words, p))) === 0xffff;
  }

  private isSix(ip: number): boolean {
    return (this.words[ip]! & 0xf0) === 0x60;
  }

  /** Payload `i` in place: a view, which is made anew each time. */
  payload(i: number): Uint8Array<ArrayBufferLike> {
    const off = this.off[i]!;
    return this.bytes.subarray(off, off + this.len[i]!);
  }

  /** Whom it is from. */
  port(i: number): number {
    return swap16(this.words[this.udp[i]!]!);
  }

  /** Whom it is from: "10.0.0.2", "fe80::1". */
  address(i: number): string {
    const { words, texts, known } = this;
    const ip = this.ip[i]!;
    if (this.isSix(ip)) return formatIPv6(words, ip + 2);
    const word = words[ip + 3]!;
    const at = (Math.imul(word, 0x9e3779b1) >>> 16) & (TEXTS - 1);
    if (known[at] !== word) {
      known[at] = word;
      texts[at] = formatIPv4(word);
    }
    return texts[at]!;
  }

  /** Bytes that an answer to `i` can have. */
  room(i: number): number {
    return this.longest - this.head - (this.isSix(this.ip[i]!) ? UDP6_HEAD : UDP4_HEAD);
  }

  /**
   * Sends what now lies at payload `i`, `bytes` bytes of it, back to where it came from. Once a datagram; allocates nothing.
   * False if it is too long (`room`), or if the daemon does not keep up: it is lost.
   */
  reply(i: number, bytes: number = this.len[i]!): boolean {
    if (bytes > this.room(i)) return false;
    const { words, sources, head, sum } = this;
    const ip = this.ip[i]!;
    const udp = this.udp[i]!;
    const six = this.isSix(ip);
    const own = six ? UDP6_HEAD : UDP4_HEAD;
    const ports = (words[udp]! >>> 16) | (words[udp]! << 16);
    const payload = (ip << 2) + own;
    // Options and extension headers are not sent back.
    if (payload !== this.off[i]) this.bytes.copyWithin(payload, this.off[i], this.off[i]! + bytes);
    if (six) {
      const from = isGroup(words, ip + 6, true) ? sources.to6(words, ip + 2) : undefined;
      for (let k = 2; k < 6; k++) {
        const was = words[ip + k]!;
        words[ip + k] = from?.[k - 2] ?? words[ip + k + 4]!;
        words[ip + k + 4] = was;
      }
      putUdp6(words, ip, ports, bytes, sum);
    } else {
      const to = words[ip + 4]!;
      const from = isGroup(words, ip + 4, false) ? (sources.four?.[0] ?? to) : to;
      putUdp4(words, ip, from, words[ip + 3]!, ports, bytes, sum);
    }
    if (head !== 0) {
      setDst(words, ip, words[ip - 2]!, words[ip - 1]! & 0xffff);
      setSrc(words, ip, this.mac0, this.mac1);
    }
    return this.frames.reply(this.frame[i]!, head + own + bytes);
  }
}
