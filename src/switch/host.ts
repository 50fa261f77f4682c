// The last step to somebody on this host: a client, or the kernel by the tap.
//
// A client may share the kernel's address. Where both ends of a packet have it, neither's stack would take it for what it
// is, so the client sees the other end under an alias (192.0.0.8, RFC 7600, unless configured): a packet whose source is its
// destination gets the alias as source on its way to a client, and one that a client sends to the alias goes to the
// client's own address. That is all: no state, and checksums follow by difference.
import type { TapQueue } from "../link/tap.ts";
import { LINK_LLADDR, LINK_WORDS } from "../netbase/layout.ts";
import { AF_INET } from "../wire/address.ts";
import { ETHERNET, isGroupMac, setDst, setSrc } from "../wire/ether.ts";
import { ERROR, P_BYTES, P_DST, P_FAMILY, P_IP, P_KIND, P_SRC } from "../wire/packet.ts";
import { completeChecksum, setAddress, setQuotedAddress } from "../wire/rewrite.ts";
import { type Core, DONE } from "./core.ts";
import { Drop } from "./drops.ts";
import { makeTooLong } from "./icmp.ts";
import { CLIENT_FLAGS, CLIENT_MTU, FILTERS_TO } from "./table/layout.ts";

/** Where a frame came from. */
export const FROM_WIRE = 0;
export const FROM_KERNEL = 1;
export const FROM_CLIENT = 2;

export class Host {
  /** Frames that the kernel took, since the last look. */
  toKernel = 0;
  private readonly core: Core;
  private readonly tap: TapQueue;
  private readonly tapIfindex: number;
  private readonly alias4: Int32Array;
  private readonly alias6: Int32Array;
  private readonly partial: boolean;
  private readonly bytes: Uint8Array;
  private readonly link = new Int32Array(LINK_WORDS);

  /** @param partial frames from the wire may have partial checksums: the card is a veth */
  constructor(
    core: Core,
    tap: TapQueue,
    tapIfindex: number,
    alias4: Int32Array,
    alias6: Int32Array,
    partial: boolean,
  ) {
    this.core = core;
    this.tap = tap;
    this.tapIfindex = tapIfindex;
    this.alias4 = alias4;
    this.alias6 = alias6;
    this.partial = partial;
    this.bytes = new Uint8Array(core.words.buffer, core.words.byteOffset, core.words.byteLength);
  }

  /** Between batches: takes over the tap's link-layer address. */
  refresh(): void {
    this.core.netbase.links.read(this.tapIfindex, this.link);
  }

  /** Packet `p`, in the frame at `off`, is for this client. DONE, or the reason why it does not get it. */
  deliver(slot: number, p: Int32Array, off: number, len: number, origin: number): number {
    const { core } = this;
    const { words, table } = core;
    const ip = p[P_IP]!;
    if (this.isFromAlias(p)) return Drop.bad_source; // nobody but us says that
    const row = table.client(slot);
    const mtu = table.words[row + CLIENT_MTU]!;
    if (p[P_BYTES]! > mtu) {
      if (origin === FROM_KERNEL && !isGroupMac(words, ip)) this.refuse(p, off, len, mtu);
      return Drop.mtu;
    }
    if (origin === FROM_KERNEL || (this.partial && origin === FROM_WIRE)) completeChecksum(words, p);
    if (this.isToItself(p)) {
      if (origin === FROM_WIRE) return Drop.bad_source;
      const four = p[P_FAMILY] === AF_INET;
      const alias = four ? this.alias4 : this.alias6;
      // The packet that an error quotes was to the alias when the client sent it.
      if (p[P_KIND] === ERROR && this.isToItself(core.quoted))
        setQuotedAddress(words, p, core.quoted, core.quoted[P_DST]!, alias, 0);
      setAddress(words, p, p[P_SRC]!, alias, 0);
    }
    if (origin === FROM_KERNEL && !isGroupMac(words, ip)) {
      setDst(words, ip, core.mac0(slot), core.mac1(slot)); // on lo there are none
      setSrc(words, ip, core.cardMac0, core.cardMac1);
    }
    if ((table.words[row + CLIENT_FLAGS]! & FILTERS_TO) !== 0) {
      const refused = core.judge!.receive(slot, p, off, len);
      if (refused !== 0) return refused;
    }
    core.deliver.queue(slot, off, len);
    return DONE;
  }

  /** Tells the kernel how long a packet to a client may be: on lo it may be longer than the card takes. */
  private refuse(p: Int32Array, off: number, len: number, mtu: number): void {
    const { words } = this.core;
    const { link } = this;
    const alias = p[P_FAMILY] === AF_INET ? this.alias4 : this.alias6;
    const answer = makeTooLong(words, this.bytes, p, len - ETHERNET, mtu, alias);
    setDst(words, p[P_IP]!, link[LINK_LLADDR]!, link[LINK_LLADDR + 1]!);
    this.tap.write(off, answer);
  }

  /** Gives the kernel a frame as if the card had received it. */
  giveBack(off: number, len: number): number {
    if (!this.tap.write(off, len)) return Drop.kernel_full;
    this.toKernel++;
    return DONE;
  }

  /** Gives the kernel a client's packet, from the tap: its source may be the kernel's own address, and is right here. */
  toHost(p: Int32Array, off: number): number {
    const { link } = this;
    const ip = p[P_IP]!;
    setDst(this.core.words, ip, link[LINK_LLADDR]!, link[LINK_LLADDR + 1]!);
    return this.giveBack(off, p[P_BYTES]! + ETHERNET);
  }

  /**
   * A client's packet to many hosts is the kernel's too, as if it had come by the card. From the kernel's own IPv4 address
   * it would be refused there: a broadcast comes by the tap then, a multicast does not, since groups are joined on the card.
   */
  share(p: Int32Array, off: number): number {
    const { core, link } = this;
    const { words } = core;
    const ip = p[P_IP]!;
    const four = p[P_FAMILY] === AF_INET;
    const isMulticast = !four || (words[p[P_DST]!]! & 0xf0) === 0xe0;
    const isKernels = four && core.isLocal(true, words, p[P_SRC]!);
    if (isMulticast && isKernels) return DONE;
    const head = words[ip - 4]!;
    const tail = words[ip - 3]!;
    if (isKernels) setDst(words, ip, link[LINK_LLADDR]!, link[LINK_LLADDR + 1]!);
    else setDst(words, ip, core.cardMac0, core.cardMac1);
    const result = this.giveBack(off, p[P_BYTES]! + ETHERNET);
    words[ip - 4] = head;
    words[ip - 3] = tail;
    return result;
  }

  /** Whether a client's packet is to the alias; then it is to the client's own address from now on. */
  isToAlias(p: Int32Array): boolean {
    if (!this.isAlias(p, p[P_DST]!)) return false;
    setAddress(this.core.words, p, p[P_DST]!, this.core.words, p[P_SRC]!);
    return true;
  }

  /** If a client's error `p` is about a packet `q` from the alias, it is about one from the client's own address from now on. */
  quoteItself(p: Int32Array, q: Int32Array): void {
    const { words } = this.core;
    if (q[P_FAMILY] === p[P_FAMILY] && this.isFromAlias(q))
      setQuotedAddress(words, p, q, q[P_SRC]!, words, p[P_SRC]!);
  }

  /** Whether somebody claims to be who a client knows by the alias. */
  isFromAlias(p: Int32Array): boolean {
    return this.isAlias(p, p[P_SRC]!);
  }

  private isAlias(p: Int32Array, at: number): boolean {
    const { words } = this.core;
    const four = p[P_FAMILY] === AF_INET;
    const alias = four ? this.alias4 : this.alias6;
    for (let i = 0; i < (four ? 1 : 4); i++) if (words[at + i] !== alias[i]) return false;
    return true;
  }

  /** Whether its source is its destination. */
  isToItself(p: Int32Array): boolean {
    const { words } = this.core;
    const src = p[P_SRC]!;
    const dst = p[P_DST]!;
    for (let i = 0; i < (p[P_FAMILY] === AF_INET ? 1 : 4); i++)
      if (words[src + i] !== words[dst + i]) return false;
    return true;
  }
}
