// A client's handshake, from the server's side: what it may say when, and what is held against it. Pure: messages and
// facts about fds go in, answers come out; mapping and sockets are the caller's.
//
//   (hello sent) --init--> named --addRegion, addRing...--> named --connect--> connected --disconnect--> over
//
// Whatever does not fit ends the session with a Refusal, whose text the client gets in its disconnect message.
// Source: reference of memif 2.0 (libmemif, DPDK); the checks are ours, since the client owns the memory and may lie.
import { timingSafeEqual } from "node:crypto";
import { type Message, MODE_ETHERNET, MODE_IP, VERSION } from "./message.ts";

/** Of a client: each is a mapping of every net Worker's, and of those a process has 65,530 (vm.max_map_count). */
const MOST_REGIONS = 16;
export const MOST_LOG2 = 14;
export const SECRET_BYTES = 24;
const RING_HEAD = 128;
const DESCRIPTOR = 16;

/** Why a client is sent away; `message` is for its author. */
export class Refusal extends Error {}

/** What stat, statfs and F_GET_SEALS say of a region's fd, and whether a ring's fd is an eventfd. Undefined: no fd came along. */
export interface FdFacts {
  readonly bytes: number;
  readonly shrinkSealed: boolean;
  /** in ordinary pages, not in those of hugetlbfs */
  readonly isTmpfs: boolean;
  readonly isEventfd: boolean;
}

export interface Region {
  readonly index: number;
  readonly bytes: number;
  readonly fd: number;
}

export interface RingPlace {
  readonly region: number;
  readonly offset: number;
  readonly log2: number;
  readonly fd: number;
}

/** Where a ring ends. */
const ringBytes = (log2: number): number => RING_HEAD + DESCRIPTOR * 2 ** log2;

export interface Limits {
  /** queues each way */
  readonly rings: number;
  /** bytes of all regions together */
  readonly bytes: number;
  /** 24 bytes, or empty: none wanted */
  readonly secret: Uint8Array;
  readonly modes: readonly number[];
}

export class Session {
  /** As the client said it in its init. */
  mode: number = MODE_ETHERNET;
  id = 0;
  name = "";
  readonly regions: Region[] = [];
  /** Client to server, and server to client. */
  readonly s2m: RingPlace[] = [];
  readonly m2s: RingPlace[] = [];
  state: "new" | "named" | "connected" | "over" = "new";
  private readonly limits: Limits;
  private bytes = 0;

  constructor(limits: Limits) {
    this.limits = limits;
  }

  /** The server's first word. */
  hello(name: string): Message {
    const most = this.limits.rings - 1;
    return {
      type: "hello",
      name,
      leastVersion: VERSION,
      mostVersion: VERSION,
      mostRegion: MOST_REGIONS - 1,
      mostM2s: most,
      mostS2m: most,
      mostLog2: MOST_LOG2,
    };
  }

  /**
   * The answer to a message, undefined where there is none. A connect is answered by the caller, once it has the memory.
   * @param fd the one that came along, or -1; it is the session's from now on
   * @throws Refusal
   */
  take(message: Message, fd: number, facts: FdFacts | undefined): Message | undefined {
    if (fd >= 0 && message.type !== "addRegion" && message.type !== "addRing")
      throw new Refusal(`${message.type} with a file descriptor`);
    if (message.type === "disconnect") {
      this.state = "over";
      return undefined;
    }
    const wanted = message.type === "init" ? "new" : "named";
    if (this.state !== wanted) throw new Refusal(`${message.type} while ${this.state}`);
    switch (message.type) {
      case "init":
        this.init(message);
        break;
      case "addRegion":
        this.addRegion(message, fd, facts);
        break;
      case "addRing":
        this.addRing(message, fd, facts);
        break;
      case "connect":
        if (this.s2m.length === 0 && this.m2s.length === 0) throw new Refusal("connect without a ring");
        this.whole();
        this.state = "connected";
        return undefined;
      default:
        throw new Refusal(`${message.type} is for the server to say`);
    }
    return { type: "ack" };
  }

  private init({ version, id, mode, secret, name }: Extract<Message, { type: "init" }>): void {
    if (version !== VERSION) throw new Refusal(`version 0x${version.toString(16)}: expected 0x200`);
    if (!this.limits.modes.includes(mode))
      throw new Refusal(
        `mode ${mode}: expected ${this.limits.modes.map((m) => (m === MODE_IP ? "1 (IP)" : "0 (Ethernet)")).join(" or ")}`,
      );
    const wanted = this.limits.secret;
    if (wanted.length > 0 && !timingSafeEqual(pad(wanted), pad(secret))) throw new Refusal("wrong secret");
    this.id = id;
    this.mode = mode;
    this.name = name;
    this.state = "named";
  }

  private addRegion(
    { index, bytes }: Extract<Message, { type: "addRegion" }>,
    fd: number,
    facts?: FdFacts,
  ): void {
    const what = `region ${index}`;
    if (fd < 0 || facts === undefined) throw new Refusal(`${what}: no file descriptor`);
    if (index >= MOST_REGIONS) throw new Refusal(`${what}: expected 0 to ${MOST_REGIONS - 1}`);
    if (index !== this.regions.length) throw new Refusal(`${what}: expected ${this.regions.length} next`);
    if (bytes === 0 || bytes > this.limits.bytes - this.bytes)
      throw new Refusal(`${what} of ${bytes} bytes: ${this.limits.bytes - this.bytes} are left`);
    if (!facts.shrinkSealed) throw new Refusal(`${what}: the memfd is not sealed against shrinking`);
    // Of reserved huge pages a hole can be made that nothing fills again: a look there is a SIGBUS, sealed or not.
    if (!facts.isTmpfs)
      throw new Refusal(`${what}: not in ordinary pages (memfd_create without MFD_HUGETLB)`);
    if (facts.bytes < bytes) throw new Refusal(`${what} of ${bytes} bytes: its file has ${facts.bytes}`);
    this.bytes += bytes;
    this.regions.push({ index, bytes, fd });
  }

  private addRing(message: Extract<Message, { type: "addRing" }>, fd: number, facts?: FdFacts): void {
    const { s2m, index, region, offset, log2, privateBytes } = message;
    const what = `ring ${s2m ? "S2M" : "M2S"} ${index}`;
    const rings = s2m ? this.s2m : this.m2s;
    if (fd < 0 || !facts?.isEventfd) throw new Refusal(`${what}: no eventfd`);
    if (index >= this.limits.rings) throw new Refusal(`${what}: expected 0 to ${this.limits.rings - 1}`);
    if (index !== rings.length) throw new Refusal(`${what}: expected ${rings.length} next`);
    if (log2 > MOST_LOG2) throw new Refusal(`${what} of 2^${log2} slots: expected at most 2^${MOST_LOG2}`);
    if (privateBytes !== 0) throw new Refusal(`${what}: a private header of ${privateBytes} bytes`);
    if (offset % 8 !== 0) throw new Refusal(`${what} at ${offset}: not a multiple of 8`);
    // Its region may be announced later: that is looked at when all is said.
    rings.push({ region, offset, log2, fd });
  }

  /** Every ring lies within a region, and no two lie in each other. */
  private whole(): void {
    const rings = [...this.s2m, ...this.m2s].toSorted((a, b) => a.region - b.region || a.offset - b.offset);
    for (const [i, { region, offset, log2 }] of rings.entries()) {
      const bytes = this.regions[region]?.bytes;
      if (bytes === undefined) throw new Refusal(`a ring in region ${region}, which there is not`);
      const end = offset + ringBytes(log2);
      if (end > bytes)
        throw new Refusal(`a ring at ${offset} of region ${region} ends at ${end}, the region at ${bytes}`);
      const next = rings[i + 1];
      if (next?.region === region && next.offset < end)
        throw new Refusal(`rings overlap in region ${region}`);
    }
  }

  /** All fds that the session has got. */
  get fds(): number[] {
    return [...this.regions, ...this.s2m, ...this.m2s].map(({ fd }) => fd);
  }
}

const pad = (secret: Uint8Array): Uint8Array => {
  const padded = new Uint8Array(SECRET_BYTES);
  padded.set(secret.subarray(0, SECRET_BYTES));
  return padded;
};
