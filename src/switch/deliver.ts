// Frames on their way to clients: put in a list per client during a batch, handed over at its end from where they lie: by
// one sendmmsg a client, or copied to its rings. What a channel has no room for is that client's loss alone.
//
// `head`, `tail` and `next` are lists of queue places by client slot; `touched` are the clients that have one.
import type { Batch } from "../link/link.ts";
import { frameBatch } from "../link/memif/batches.ts";
import { GONE, Sender } from "../link/uds.ts";
import { type Accounts, TO_BYTES, TO_PACKETS } from "./account.ts";
import { Drop } from "./drops.ts";
import type { TableReader } from "./table/find.ts";
import type { Port, Ports } from "./ports.ts";
import { CLIENT_FD, CLIENT_GEN } from "./table/layout.ts";

const QUEUE = 1024;
const BURST = 64; // messages a system call

export class Deliver {
  /** Frames that reached a channel, and frames that were dropped by reason, since the last look. */
  delivered = 0;
  full = 0;
  gone = 0;
  private readonly table: TableReader;
  private readonly accounts: Accounts;
  readonly ports: Ports;
  private readonly batched: Batch;
  private readonly sender: Sender;
  private readonly onGone: (slot: number) => void;
  private readonly head: Int32Array;
  private readonly tail: Int32Array;
  private readonly next = new Int32Array(QUEUE);
  private readonly off = new Int32Array(QUEUE);
  private readonly len = new Int32Array(QUEUE);
  private readonly touched = new Int32Array(QUEUE);
  private touches = 0;
  private used = 0;

  /** @param base address of frame offset 0; @param onGone called when nobody is at a channel's other end */
  constructor(
    table: TableReader,
    ports: Ports,
    accounts: Accounts,
    base: number,
    onGone: (slot: number) => void,
  ) {
    const { clients } = table.layout.capacity;
    this.table = table;
    this.ports = ports;
    this.accounts = accounts;
    this.batched = frameBatch(ports.memory);
    this.sender = new Sender(BURST, base);
    this.onGone = onGone;
    this.head = new Int32Array(clients).fill(-1);
    this.tail = new Int32Array(clients);
  }

  /** The frame is for this client. It must stay as it is until `flush`. */
  queue(slot: number, off: number, len: number): void {
    if (this.used === QUEUE) this.flush();
    const { head, tail, next } = this;
    const at = this.used++;
    this.off[at] = off;
    this.len[at] = len;
    next[at] = -1;
    if (head[slot] === -1) {
      head[slot] = at;
      this.touched[this.touches++] = slot;
    } else next[tail[slot]!] = at;
    tail[slot] = at;
  }

  /** Hands a batch (frameBatch) to a client by memif at once; false if it is none. */
  batch(slot: number, frames: Batch): boolean {
    const port = this.ports.of(slot);
    if (port === undefined || port.isIp) return false;
    this.flush(); // what came before
    this.give(slot, port, frames);
    return true;
  }

  /** Hands over all that is queued. */
  flush(): void {
    if (this.touches === 0) return;
    for (let i = 0; i < this.touches; i++) this.hand(this.touched[i]!);
    this.touches = 0;
    this.used = 0;
  }

  private hand(slot: number): void {
    const port = this.ports.of(slot);
    if (port === undefined) this.send(slot);
    else this.copy(slot, port);
  }

  private copy(slot: number, port: Port): void {
    const { batched: batch, next } = this;
    let at = this.head[slot]!;
    this.head[slot] = -1;
    while (at !== -1) {
      batch.n = 0;
      for (; at !== -1 && batch.n < BURST; at = next[at]!) {
        batch.off[batch.n] = this.off[at]!;
        batch.len[batch.n++] = this.len[at]!;
      }
      this.give(slot, port, batch);
    }
  }

  private give(slot: number, port: Port, batch: Batch): void {
    const { ports, accounts } = this;
    const sent = ports.deliver(port, batch);
    accounts.add(slot, TO_PACKETS, sent);
    accounts.add(slot, TO_BYTES, ports.bytes);
    this.delivered += sent;
    this.full += batch.n - sent;
    for (let i = sent; i < batch.n; i++) accounts.drop(slot, Drop.channel_full);
  }

  private send(slot: number): void {
    const { sender, next, off, len, accounts } = this;
    const row = this.table.client(slot);
    const live = (this.table.words[row + CLIENT_GEN]! & 1) === 1;
    let at = this.head[slot]!;
    this.head[slot] = -1;
    let packets = 0;
    let bytes = 0;
    let open = live;
    while (at !== -1 && open) {
      const first = at;
      let n = 0;
      for (; at !== -1 && n < BURST; at = next[at]!) sender.set(n++, off[at]!, len[at]!);
      const sent = sender.send(this.table.words[row + CLIENT_FD]!, n);
      for (let i = 0, one = first; i < sent; i++, one = next[one]!) bytes += len[one]!;
      packets += sent;
      open = sent === n;
      if (open) continue;
      at = first;
      for (let i = 0; i < sent; i++) at = next[at]!;
    }
    if (packets > 0) {
      accounts.add(slot, TO_PACKETS, packets);
      accounts.add(slot, TO_BYTES, bytes);
      this.delivered += packets;
    }
    if (at === -1) return;
    const isGone = !live || sender.refusal === GONE;
    for (; at !== -1; at = next[at]!) {
      accounts.drop(slot, isGone ? Drop.client_gone : Drop.channel_full);
      if (isGone) this.gone++;
      else this.full++;
    }
    if (isGone && live) this.onGone(slot);
  }

  close(): void {
    this.sender.close();
  }
}
