// What a net Worker is told of the clients that are attached by memif: a region a Worker, netd-memif-N, which the control
// Worker writes and net Worker N reads. A port is a client's memory as it is mapped into the frame memory of that Worker
// (window.ts), and those of its rings that the Worker serves.
//
//   word 0               version: another one whenever a port has come or gone
//   word 16 + p * 1024   port p:
//     0 client's slot, -1: none | 1 mode | 2 rings from the client | 3 rings to it | 4 number of the one
//       that other Workers write to as well, -1: none | 5 serial number: no two ports have the same
//     16..   rings, 4 words each: region, offset, log2 of the slots, eventfd; RINGS from the client, RINGS to it
//     256..  where each region is in the frame memory, -1: nowhere; 256 of them
//     512..  bytes of each
//
// A port's words are complete before the version says so, and are not used again until every net Worker has quiesced after
// it went (src/mem/epoch.ts).
import type { RingPlace } from "./session.ts";

/** Queues that a client may have each way. */
export const RINGS = 16;
/** Places for regions. */
export const REGIONS = 256;
/** Clients by memif of one Worker. */
export const PORTS = 1024;
const FIRST = 16;
const PORT_WORDS = 1024;
const P_CLIENT = 0;
const P_MODE = 1;
const P_FROM = 2;
const P_TO = 3;
const P_SHARED = 4;
const P_SERIAL = 5;
const P_RINGS = 16;
const P_OFFS = 256;
const P_BYTES = 512;

export const portsBytes: number = (FIRST + PORTS * PORT_WORDS) * 4;

export interface PortPlace {
  readonly client: number;
  /** MODE_ETHERNET or MODE_IP */
  readonly mode: number;
  /** Rings that this Worker receives from, and delivers to. */
  readonly from: readonly RingPlace[];
  readonly to: readonly RingPlace[];
  /** `to` is one ring with this number, and other Workers deliver to it as well; -1: they do not. */
  readonly sharedRing: number;
  /** By region: byte offset in the frame memory, -1 if it is not mapped; and its bytes. */
  readonly offs: Int32Array;
  readonly bytes: Int32Array;
}

/** The control Worker's side. */
export class PortWriter {
  private readonly words: Int32Array;
  private serial = 0;
  private readonly spare = Array.from({ length: PORTS }, (_, i) => PORTS - 1 - i);

  constructor(buffer: ArrayBuffer) {
    this.words = new Int32Array(buffer);
    for (let port = 0; port < PORTS; port++) this.words[FIRST + port * PORT_WORDS] = -1;
  }

  /** Returns the port's number, -1 if there are PORTS already. */
  add({ client, mode, from, to, sharedRing, offs, bytes }: PortPlace): number {
    const port = this.spare.pop();
    if (port === undefined) return -1;
    const { words } = this;
    const at = FIRST + port * PORT_WORDS;
    words.set([mode, from.length, to.length, sharedRing, ++this.serial], at + P_MODE);
    for (const [i, ring] of from.entries()) words.set(ringWords(ring), at + P_RINGS + i * 4);
    for (const [i, ring] of to.entries()) words.set(ringWords(ring), at + P_RINGS + (RINGS + i) * 4);
    words.set(offs, at + P_OFFS);
    words.set(bytes, at + P_BYTES);
    words[at + P_CLIENT] = client;
    Atomics.add(words, 0, 1);
    return port;
  }

  /** Its Worker lets go of it. `free` follows when the Worker has quiesced. */
  remove(port: number): void {
    this.words[FIRST + port * PORT_WORDS + P_CLIENT] = -1;
    Atomics.add(this.words, 0, 1);
  }

  free(port: number): void {
    this.spare.push(port);
  }
}

const ringWords = ({ region, offset, log2, fd }: RingPlace): number[] => [region, offset, log2, fd];

/** The net Worker's side. */
export class PortReader {
  private readonly words: Int32Array;

  constructor(buffer: ArrayBuffer) {
    this.words = new Int32Array(buffer);
  }

  get version(): number {
    return this.words[0]!;
  }

  /** All ports by their serial number, in copies. Cold. */
  *ports(): Generator<[number, PortPlace]> {
    const { words } = this;
    for (let port = 0; port < PORTS; port++) {
      const at = FIRST + port * PORT_WORDS;
      const client = words[at + P_CLIENT]!;
      if (client < 0) continue;
      const rings = (first: number, n: number): RingPlace[] =>
        Array.from({ length: n }, (_, i) => {
          const r = at + P_RINGS + (first + i) * 4;
          return { region: words[r]!, offset: words[r + 1]!, log2: words[r + 2]!, fd: words[r + 3]! };
        });
      yield [
        words[at + P_SERIAL]!,
        {
          client,
          mode: words[at + P_MODE]!,
          from: rings(0, words[at + P_FROM]!),
          to: rings(RINGS, words[at + P_TO]!),
          sharedRing: words[at + P_SHARED]!,
          offs: words.slice(at + P_OFFS, at + P_OFFS + REGIONS),
          bytes: words.slice(at + P_BYTES, at + P_BYTES + REGIONS),
        },
      ];
    }
  }
}
