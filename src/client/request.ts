// What a program asks of the daemon: one datagram to its control socket, one answer, which may bring a fd along
// (docs/switch.md has the protocol). A client is known by the path that it is bound to; the path exists only while a
// question is open, so that a program which is killed leaves nothing.
//
//   msghdr (56) | iovec (16) | control (64) | answer: one piece of mapped memory a question, which the kernel writes
//
// The socket is connected: nobody else can answer on it. Sources: unix(7), recvmsg(2).
import { unlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { check, errno, SysError } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { bufferAt, mapPrivate, type Pointer, ptr, unmap } from "../../ffi/memory.ts";
import type { PrivateKey } from "../grants/keys.ts";
import type { Challenge } from "../grants/proof.ts";

const AF_UNIX = 1;
const SOCK_DGRAM_CLOEXEC = 2 | 0x80000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;
const EAGAIN = 11;
const EACCES = 13;
const ETIMEDOUT = 110;

const IOVEC = 56;
const CONTROL = 72;
const CONTROL_BYTES = 64;
const ANSWER = CONTROL + CONTROL_BYTES;
const ANSWER_BYTES = 1_000_000;
const BYTES = ANSWER + ANSWER_BYTES;
const PATIENCE_MS = 5000;

/** The daemon does not do what it was asked for. `code` is its word for programs, the message its sentence. */
export class Refused extends Error {
  readonly code: string;

  constructor(op: string, code: string, message: string) {
    super(`${op}: ${code} (${message})`);
    this.name = "Refused";
    this.code = code;
  }
}

/** Signed grants (docs/grants.md): a chain, the issuer's link first, and the key that the last one is bound to. */
export interface Grant {
  readonly chain: readonly string[];
  readonly key: PrivateKey;
}

export interface Answer {
  readonly text: string;
  /** the caller's to close; -1: none */
  readonly fd: number;
}

function sockaddr(path: string): Uint8Array<ArrayBuffer> {
  const name = new Uint8Array(new ArrayBuffer(110));
  name[0] = AF_UNIX;
  name.set(Buffer.from(path).subarray(0, 107), 2);
  return name;
}

let asked = 0;

export class Requests {
  readonly server: string;
  private readonly path: string;
  /** One question at a time: they share the path. */
  private last: Promise<unknown> = Promise.resolve();
  /** The socket of who has presented a grant: it stays, because the grant's end is told there. -1: one for each question. */
  private kept = -1;
  private isAsking = false;
  private isClosed = false;
  private why: Refused | undefined;

  /** @param directory where the daemon can see the path that it answers at */
  constructor(server: string, directory: string = tmpdir()) {
    this.server = server;
    const random = crypto.getRandomValues(new Uint32Array(1))[0]!.toString(36);
    this.path = join(directory, `netd-client-${process.pid}-${++asked}-${random}`);
  }

  /** @throws SysError where nobody answers; an answer that refuses is an answer */
  ask(op: string, request: unknown): Promise<Answer> {
    const answer = this.last.then(() => this.question(op, request));
    this.last = answer.catch(() => {});
    return answer;
  }

  /** A match, which is answered by "OK". @throws Refused */
  async demand(op: string, match: object): Promise<void> {
    const { text, fd } = await this.ask(op, { AddMatch: match });
    if (fd >= 0) libc.close(fd);
    if (text === "ER") throw new Refused(op, "exists", "a client has exactly that already");
    if (text !== "OK") throw refusal(op, text);
  }

  /**
   * Shows that the grant is this program's, and hears of its end from then on. @throws Refused
   */
  async present(op: string, { chain, key }: Grant): Promise<void> {
    this.kept = this.open(op);
    const { text } = await this.ask(op, "Challenge");
    const { Challenge: challenge } = JSON.parse(text) as { Challenge?: Challenge };
    if (challenge === undefined) throw refusal(op, text);
    if (challenge.client !== this.path)
      throw new Refused(
        op,
        "wrong_holder",
        `netd asks for a proof of ${challenge.client}, and this is ${this.path}`,
      );
    const { prove } = await import("../grants/proof.ts");
    const answer = await this.ask(op, {
      Present: { grant: chain, proof: await prove(challenge, chain, key) },
    });
    if (!answer.text.startsWith('{"Granted"')) throw refusal(op, answer.text);
  }

  /** The fd that is readable when netd says something unasked; -1: nothing is heard. */
  get fd(): number {
    return this.kept;
  }

  /** Why the last grant that ended did, as netd said before its last answer. */
  get ended(): Refused | undefined {
    return this.why;
  }

  /** Of no use afterwards. A question that is open has its answer still. */
  close(): void {
    this.isClosed = true;
    if (this.isAsking || this.kept < 0) return;
    this.shut(this.kept);
    this.kept = -1;
  }

  /** What the daemon never answers: it is done once the next question is answered. */
  async tell(op: string, request: unknown): Promise<void> {
    const answer = this.last.then(() => this.question(op, request, "WhoAmI"));
    this.last = answer.catch(() => {});
    await answer;
  }

  private async question(op: string, ...requests: unknown[]): Promise<Answer> {
    const { kept } = this;
    const fd = kept < 0 ? this.open(op) : kept;
    this.isAsking = true;
    const memory = mapPrivate(BYTES, true);
    try {
      for (const request of requests) {
        const bytes = Buffer.from(JSON.stringify(request));
        check(op, libc.sendto(fd, ptr(bytes), bytes.length, MSG_NOSIGNAL, null, 0));
      }
      for (const late = performance.now() + PATIENCE_MS; performance.now() < late; await Bun.sleep(1)) {
        const answer = receive(op, fd, memory);
        const end = answer && endOf(answer.text);
        if (end !== undefined) this.why = end;
        else if (answer !== undefined) return answer;
      }
      throw new SysError(op, ETIMEDOUT, `netd does not answer at ${this.server}`);
    } finally {
      unmap(memory, BYTES);
      this.isAsking = false;
      if (kept < 0) this.shut(fd);
      else if (this.isClosed) this.close();
    }
  }

  private open(op: string): number {
    const fd = check(op, libc.socket(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0));
    const own = sockaddr(this.path);
    if (libc.bind(fd, ptr(own), own.length) < 0) {
      const error = new SysError(`${op}: bind ${this.path}`, errno(), "choose another directory");
      libc.close(fd);
      throw error;
    }
    const server = sockaddr(this.server);
    if (libc.connect(fd, ptr(server), server.length) === 0) return fd;
    const number = errno();
    this.shut(fd);
    const hint =
      number === EACCES ? "not for this user: switch.group" : "no netd serves it: netd --interface NAME";
    throw new SysError(`${op}: connect ${this.server}`, number, hint);
  }

  private shut(fd: number): void {
    libc.close(fd);
    unlinkSync(this.path);
  }
}

function receive(op: string, fd: number, memory: number): Answer | undefined {
  const view = new DataView(bufferAt(memory, BYTES));
  view.setBigUint64(16, BigInt(memory + IOVEC), true);
  view.setBigUint64(24, 1n, true);
  view.setBigUint64(32, BigInt(memory + CONTROL), true);
  view.setBigUint64(40, BigInt(CONTROL_BYTES), true);
  view.setBigUint64(IOVEC, BigInt(memory + ANSWER), true);
  view.setBigUint64(IOVEC + 8, BigInt(ANSWER_BYTES), true);
  const n = Number(libc.recvmsg(fd, memory as Pointer, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
  if (n < 0) {
    const number = errno();
    if (number === EAGAIN) return undefined;
    throw new SysError(op, number, "netd has ended");
  }
  const passed =
    Number(view.getBigUint64(40, true)) >= 20 &&
    view.getInt32(CONTROL + 8, true) === SOL_SOCKET &&
    view.getInt32(CONTROL + 12, true) === SCM_RIGHTS;
  return {
    text: Buffer.from(view.buffer, ANSWER, n).toString(),
    fd: passed ? view.getInt32(CONTROL + 16, true) : -1,
  };
}

/** What netd says unasked: a grant has ended. Undefined: it is an answer. */
function endOf(text: string): Refused | undefined {
  if (!text.startsWith('{"GrantEnded"')) return undefined;
  const { code, message } = (JSON.parse(text) as { GrantEnded: { code: string; message: string } })
    .GrantEnded;
  return new Refused("grant", code, message);
}

/** The error that an answer is which is not what was asked for. */
export function refusal(op: string, text: string): Refused {
  if (text === "ER") return new Refused(op, "no_interface", "netd serves another card");
  try {
    const { code, message } = (JSON.parse(text) as { Error: { code: string; message: string } }).Error;
    return new Refused(op, code, message);
  } catch {
    return new Refused(op, "malformed", `an answer that is none: ${text.slice(0, 80)}`);
  }
}
