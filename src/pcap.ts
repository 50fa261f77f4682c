// `netd capture [-w FILE|-] [FILTER]`: frames of the running daemon, both directions, each with what became of it. FILTER
// is libpcap's language (pcap-filter(7)); it is compiled here, and the daemon gets bytecode.
//   netd capture -w - tcp port 80 | wireshark -k -i -
import { createWriteStream } from "node:fs";
import { finished } from "node:stream/promises";
import { SysError } from "../ffi/errno.ts";
import { pcapCompile } from "../ffi/libpcap.ts";
import { ask } from "./ask.ts";
import { FRAME_BYTES } from "./capture/region.ts";
import { PcapngText } from "./capture/text.ts";
import { print } from "./out.ts";

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
  const response = await ask(socket, "capture", { method: "POST", body, signal: stop });
  const file = write === undefined || write === "-" ? undefined : createWriteStream(write, { mode: 0o600 });
  const failed = file && finished(file).catch((error: NodeJS.ErrnoException) => error);
  const text = new PcapngText();
  try {
    for await (const piece of response.body!) {
      if (file) {
        if (!file.write(piece)) await Promise.race([new Promise((done) => file.once("drain", done)), failed]);
        if (file.errored) break;
      } else if (!(await print(write === "-" ? piece : text.push(piece)))) break;
    }
  } catch (error) {
    if (!stop.aborted) throw error;
  }
  if (!file) return;
  file.end();
  const error = await failed;
  if (error) throw new SysError(`write ${write}`, Math.abs(error.errno ?? 5), error.message);
}
