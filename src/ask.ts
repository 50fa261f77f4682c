// The client of the admin socket (admin.ts is its server): one question, its answer piece by piece, so that a million
// routes are neither one string nor one array here.
import { constants } from "node:os";
import { SysError } from "../ffi/errno.ts";

const advice: Record<string, string> = {
  ENOENT:
    "no daemon has made this socket; start one with `netd --interface IF`, or name its socket with --admin",
  ECONNREFUSED:
    "its daemon is gone; start one with `netd --interface IF`, or name another socket with --admin",
  EACCES: "only the user who runs the daemon may ask it; try as root",
};

/** The daemon understood and said no; the message is its own. */
export class Refusal extends Error {}

/**
 * GET a page of the daemon at `socket`, or what `init` says.
 * @throws SysError saying what to do where no daemon answers, Refusal where it does and says no
 */
export async function ask(socket: string, page: string, init: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(`http://netd/${page}`, { ...init, unix: socket });
  } catch (error) {
    const { code = "", message } = error as NodeJS.ErrnoException;
    const number = (constants.errno as Record<string, number>)[code] ?? constants.errno.EIO;
    throw new SysError(`ask the daemon at ${socket}`, number, advice[code] ?? message);
  }
  if (response.ok) return response;
  const text = await response.text();
  let detail = text;
  try {
    detail = (JSON.parse(text) as { error: string }).error;
  } catch {
    // Not one of our errors: shown as it is.
  }
  throw new Refusal(detail);
}

/** The body as text, piece by piece. */
export async function* pieces(response: Response): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  for await (const bytes of response.body!) yield decoder.decode(bytes, { stream: true });
}

/** The rows of a list page, which has one a line. */
export async function* rows(response: Response): AsyncGenerator<unknown> {
  let rest = "";
  for await (const piece of pieces(response)) {
    const lines = (rest + piece).split("\n");
    rest = lines.pop()!;
    for (const line of lines) if (line.startsWith("{")) yield JSON.parse(line.replace(/,$/, ""));
  }
}
