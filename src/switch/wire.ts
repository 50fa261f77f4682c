// Clients' frames on their way out of the card, in batches. They are the link's from then on; those that it has no room
// for are given back, and are their client's loss.
import { Batch, type Link, VECTOR } from "../link/link.ts";
import type { Accounts } from "./account.ts";
import type { Acks } from "./acks.ts";
import type { Deliver } from "./deliver.ts";
import { Drop } from "./drops.ts";
import type { Stock } from "./stock.ts";
import { PORT_LONGEST } from "./transmit.ts";

export class Wire {
  /** Frames and bytes sent, and frames that found the ring full, since the last look. */
  packets = 0;
  bytes = 0;
  full = 0;
  private readonly link: Link;
  private readonly stock: Stock;
  private readonly deliver: Deliver;
  private readonly accounts: Accounts;
  private readonly acks: Acks;
  private readonly port: Int32Array;
  private readonly batch = new Batch(VECTOR);
  private readonly slots = new Int32Array(VECTOR);

  /** @param deliver may refer to the same frames; @param port the card's state (transmit.ts) */
  constructor(link: Link, stock: Stock, deliver: Deliver, accounts: Accounts, acks: Acks, port: Int32Array) {
    this.acks = acks;
    this.link = link;
    this.deliver = deliver;
    this.stock = stock;
    this.accounts = accounts;
    this.port = port;
  }

  /** Takes a frame of client `slot`, or (-1) of our own. Returns 0, or the reason why not: then it is still the caller's. */
  send(slot: number, off: number, len: number): number {
    const longest = this.port[PORT_LONGEST]!;
    if (len > longest) {
      const reason = longest === 0 ? Drop.link_down : Drop.mtu;
      if (slot >= 0 && this.acks.has(slot)) this.acks.end(slot, off, reason);
      return reason;
    }
    const { batch } = this;
    if (batch.n === VECTOR) this.flush();
    batch.off[batch.n] = off;
    batch.len[batch.n] = len;
    this.slots[batch.n++] = slot;
    return 0;
  }

  /** Sends frames of client `slot`'s, `bytes` in all, who does not want to hear what becomes of them. */
  transmit(slot: number, batch: Batch, bytes: number): void {
    if (batch.n === 0) return;
    this.flush();
    const sent = this.link.transmit(batch);
    this.packets += sent;
    this.bytes += bytes;
    for (let i = sent; i < batch.n; i++) {
      this.bytes -= batch.len[i]!;
      this.lost(slot, batch.off[i]!);
    }
  }

  private lost(slot: number, off: number): void {
    this.full++;
    if (slot >= 0) this.accounts.drop(slot, Drop.tx_full);
    this.stock.give(off);
  }

  flush(): void {
    const { batch } = this;
    if (batch.n === 0) return;
    this.deliver.flush(); // a group's frame is the clients' first
    const sent = this.link.transmit(batch);
    this.acknowledge(sent);
    for (let i = 0; i < sent; i++) this.bytes += batch.len[i]!;
    this.packets += sent;
    for (let i = sent; i < batch.n; i++) this.lost(this.slots[i]!, batch.off[i]!);
    batch.n = 0;
  }

  /** Tells those who want to hear that the first `sent` frames of the batch are, and the others are not. */
  private acknowledge(sent: number): void {
    const { acks, slots, batch } = this;
    for (let i = 0; i < batch.n; i++)
      if (slots[i]! >= 0 && acks.has(slots[i]!))
        acks.end(slots[i]!, batch.off[i]!, i < sent ? 0 : Drop.tx_full);
  }
}
