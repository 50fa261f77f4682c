// One client's control socket, from the accept on: messages and fds in, a Session's answers out. Non-blocking; the caller
// waits in epoll and calls `read` when there is something. A client that breaks the rules is told why, and closed.
// Source: F_GET_SEALS: fcntl(2); TMPFS_MAGIC: statfs(2).
import { readlinkSync, statfsSync, statSync } from "node:fs";
import { errno } from "../../../ffi/errno.ts";
import { libc } from "../../../ffi/libc.ts";
import { Mailbox } from "./mailbox.ts";
import { decode, type Message } from "./message.ts";
import { type FdFacts, Refusal, Session, type Limits } from "./session.ts";

const MSG_DONTWAIT = 0x40;
const EAGAIN = 11;
const F_GET_SEALS = 1034;
const F_SEAL_SHRINK = 2;
const TMPFS_MAGIC = 0x01021994;

function factsOf(fd: number): FdFacts {
  const path = `/proc/self/fd/${fd}`;
  const seals = libc.fcntl(fd, F_GET_SEALS, 0);
  const isEventfd = readlinkSync(path) === "anon_inode:[eventfd]";
  return {
    bytes: statSync(path).size,
    shrinkSealed: seals >= 0 && (seals & F_SEAL_SHRINK) !== 0,
    isTmpfs: statfsSync(path).type === TMPFS_MAGIC,
    isEventfd,
  };
}

export class Connection {
  readonly fd: number;
  readonly session: Session;
  /** Why it ended, once it has. */
  ended = "";
  private readonly mailbox: Mailbox;

  /** Greets the client. @param fd accepted, and from now on ours */
  constructor(fd: number, name: string, limits: Limits) {
    this.fd = fd;
    this.session = new Session(limits);
    this.mailbox = new Mailbox(fd);
    this.say(this.session.hello(name));
  }

  /**
   * Takes what has come. True once the client is connected and its rings can be mapped: the caller answers with
   * `connected` or `refuse`. `ended` says whether it is over.
   */
  read(): boolean {
    while (this.ended === "") {
      const received = this.mailbox.receive(MSG_DONTWAIT);
      if (received === undefined && errno() === EAGAIN) return false;
      if (received === undefined || received.bytes.length === 0) {
        this.ended = "the client closed its socket";
        return false;
      }
      const { bytes, fds, cut } = received;
      try {
        if (cut && fds.length === 0)
          throw new Refusal("netd has no room for your file descriptor: RLIMIT_NOFILE");
        if (fds.length > 1 || cut)
          throw new Refusal("a message with more than one file descriptor, or of more than 128 bytes");
        const message = decode(bytes);
        if (message === undefined)
          throw new Refusal(`${bytes.length} bytes that are no message of memif 2.0`);
        const fd = fds[0] ?? -1;
        const known = this.session.fds.length;
        const answer = this.session.take(message, fd, fd < 0 ? undefined : factsOf(fd));
        if (this.session.fds.length > known) fds.length = 0; // the session has it now
        if (this.session.state === "over") {
          this.ended = message.type === "disconnect" ? `the client left: ${message.reason}` : "over";
          return false;
        }
        if (message.type === "connect") return true;
        if (answer) this.say(answer);
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        this.refuse(error.message);
      } finally {
        for (const fd of fds) libc.close(fd);
      }
    }
    return false;
  }

  connected(name: string): void {
    this.say({ type: "connected", name });
  }

  /** Tells the client why it has to go. */
  refuse(reason: string): void {
    this.say({ type: "disconnect", code: 1, reason });
    this.ended = reason;
  }

  /** Closes the regions' fds: who has mapped them needs no more. */
  mapped(): void {
    for (const { fd } of this.session.regions.splice(0)) libc.close(fd);
  }

  /** Closes the socket and every fd that came by it. */
  close(): void {
    for (const fd of this.session.fds) libc.close(fd);
    libc.close(this.fd);
    this.mailbox.close();
  }

  private say(message: Message): void {
    this.mailbox.send(message, MSG_DONTWAIT); // a client that does not read its 128-byte messages does not get them
  }
}
