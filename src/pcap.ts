// `netd capture [-w FILE|-] [FILTER]`: frames of the running daemon, both directions, each with what became of it. FILTER
// is libpcap's language (pcap-filter(7)); it is compiled here, and the daemon gets bytecode.
//   netd capture -w - tcp port 80 | wireshark -k -i -
import { closeSync, openSync } from "node:fs";
import { errnoName, SysError } from "../ffi/errno.ts";
import { pcapCompile } from "../ffi/libpcap.ts";
import { ask } from "./ask.ts";
import { FRAME_BYTES } from "./capture/region.ts";
import { writeAll } from "./capture/stream.ts";
import { PcapngText } from "./capture/text.ts";
import { print } from "./out.ts";

const HINTS: Readonly<Record<string, string>> = {
  ENOENT: "its directory does not exist",
  EACCES: "choose a file that this user may write",
  ENOSPC: "its disk is full",
};

export interface CaptureRequest {
  /** the admin socket */
  readonly socket: string;
  /** file, "-" for stdout, undefined for lines of text */
  readonly write: string | undefined;
  /** libpcap's language; "" takes everything */
  readonly filter: string;
  readonly stop: AbortSignal;
}

/** Runs until `stop`, the daemon's end, or nobody reads any more. @throws SysError, or the daemon's refusal */
export async function capture({ socket, write, filter, stop }: CaptureRequest): Promise<void> {
  const body = filter === "" ? new Uint8Array(0) : pcapCompile(filter, FRAME_BYTES);
  const fd = write === undefined || write === "-" ? -1 : attempt(write, () => openSync(write, "w", 0o600));
  const text = new PcapngText();
  try {
    const response = await ask(socket, "capture", { method: "POST", body, signal: stop });
    for await (const piece of response.body!)
      if (fd >= 0) attempt(write!, () => writeAll(fd, piece));
      else if (!(await print(write === "-" ? piece : text.push(piece)))) break;
  } catch (error) {
    if (!stop.aborted) throw error;
  } finally {
    if (fd >= 0) closeSync(fd);
  }
}

/** Runs `action`; a system error becomes a SysError naming the file. */
function attempt<T>(path: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    const { errno = 0 } = error as NodeJS.ErrnoException;
    throw new SysError(`write ${path}`, Math.abs(errno), HINTS[errnoName(Math.abs(errno))]);
  }
}
