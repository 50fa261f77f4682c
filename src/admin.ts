// The admin socket: HTTP over a Unix socket, for `netd show`, `netd lookup` and anyone who has curl:
//   curl --unix-socket /run/netd/admin.sock http://netd/routes
// GET /links /addrs /routes /neighs /queues /drops /clients /matches /claims
// /filters /grants answer a JSON array with a row a line, GET
// /summary and /lookup?address=... an object; errors are {"error": text}. It reads the view on the main thread, a piece at a time.
// POST /capture answers pcapng for as long as it is read (src/capture/stream.ts).
// The file's mode is 0600 from the first moment: who may connect may see everything.
import { lstatSync, mkdirSync, rmdirSync, unlinkSync } from "node:fs";
import { constants } from "node:os";
import { dirname } from "node:path";
import { SysError } from "../ffi/errno.ts";
import { parseLookup, QueryError } from "./query.ts";
import type { DaemonView, SummaryView } from "./view.ts";

const PIECE = 64 * 1024; // characters of JSON at once

export const lists = [
  "links",
  "addrs",
  "routes",
  "neighs",
  "queues",
  "drops",
  "clients",
  "matches",
  "claims",
  "filters",
  "grants",
] as const;
export type ListName = (typeof lists)[number];

const json = (body: unknown, status = 200): Response => Response.json(body, { status });

/**
 * A JSON array, one row a line, made as it is read: a million routes are never one string. A reader that stands still for
 * `stallMs` loses its answer: while it lasts, the tables keep the memory of what was deleted meanwhile.
 */
function stream(rows: Iterable<unknown>, stallMs: number): Response {
  const iterator = rows[Symbol.iterator]();
  let before = "[\n";
  const piece = (): { text: string; done: boolean } => {
    let text = "";
    while (text.length < PIECE) {
      const { value, done } = iterator.next();
      if (done) return { text: `${text}${before === "[\n" ? "[" : ""}\n]\n`, done: true };
      text += before + JSON.stringify(value);
      before = ",\n";
    }
    return { text, done: false };
  };
  // The first piece now: a view that fails is an error to the client and not a broken answer.
  const first = piece();
  const headers = { "content-type": "application/json" };
  if (first.done) return new Response(first.text, { headers });
  const encoder = new TextEncoder();
  let timer: Timer | undefined;
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(encoder.encode(first.text)),
    pull(controller) {
      clearTimeout(timer);
      const { text, done } = piece();
      controller.enqueue(encoder.encode(text));
      if (done) return controller.close();
      timer = setTimeout(() => {
        iterator.return?.();
        controller.error(new Error("the reader stands still"));
      }, stallMs);
    },
    cancel() {
      clearTimeout(timer);
      iterator.return?.();
    },
  });
  return new Response(body, { headers });
}

function answer(request: Request, view: DaemonView, stallMs: number): Response {
  const url = new URL(request.url);
  const page = url.pathname.slice(1);
  if (request.method !== "GET") return json({ error: `${request.method} is not served here, only GET` }, 405);
  if (page === "summary") return json(view.summary());
  if (page === "lookup") {
    const { address, options } = parseLookup(url.searchParams);
    return json(view.lookup(address, options));
  }
  if ((lists as readonly string[]).includes(page)) return stream(view[page as ListName](), stallMs);
  const pages = [...lists, "summary", "lookup?address=ADDRESS"].map((name) => `/${name}`);
  return json({ error: `no page /${page}; there are ${pages.join(" ")}` }, 404);
}

/** Whether somebody listens at `path`. */
export async function listens(path: string): Promise<boolean> {
  try {
    const socket = await Bun.connect({ unix: path, socket: { data() {} } });
    socket.end();
    return true;
  } catch {
    return false;
  }
}

/** Who listens at `path`, in words. */
async function owner(path: string): Promise<string> {
  try {
    const answered = await fetch("http://netd/summary", { unix: path, signal: AbortSignal.timeout(1000) });
    const { pid, interface: ifname } = (await answered.json()) as SummaryView;
    return `netd with pid ${pid} on ${ifname} serves it`;
  } catch {
    return "another process listens there";
  }
}

/** Takes away what a dead daemon left at `path`; refuses to touch anything else. @throws as serveAdmin */
export async function clearSocket(path: string): Promise<void> {
  const stat = attempt(path, () => lstatSync(path, { throwIfNoEntry: false }));
  if (!stat) return;
  const op = `admin socket ${path}`;
  if (!stat.isSocket()) throw new SysError(op, constants.errno.EEXIST, "not a socket; choose another path");
  if (await listens(path))
    throw new SysError(
      op,
      constants.errno.EADDRINUSE,
      `${await owner(path)}; stop it, or choose another path with --admin`,
    );
  unlinkSync(path);
}

/** Runs `action`; a system error becomes a SysError naming the admin socket. */
function attempt<T>(path: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    const { code = "", message } = error as NodeJS.ErrnoException;
    const number = (constants.errno as Record<string, number | undefined>)[code];
    if (number === undefined) throw error;
    throw new SysError(`admin socket ${path}`, number, message.replace(`${code}: `, ""));
  }
}

/**
 * Serves `view` at `path`. The directory is made if it is missing, and a socket that a dead daemon left is replaced.
 * `stop` ends open answers and leaves nothing of it behind.
 * @throws SysError EADDRINUSE naming the live daemon that has the path, EEXIST for a file that is no socket
 */
export async function serveAdmin(
  path: string,
  view: DaemonView,
  stallMs = 30_000,
): Promise<{ stop(): Promise<void> }> {
  const directory = dirname(path);
  const made = attempt(path, () => mkdirSync(directory, { recursive: true, mode: 0o755 })) !== undefined;
  await clearSocket(path);
  // bind(2) applies the umask, so there is no moment at which others could connect.
  const umask = process.umask(0o177);
  let server: Bun.Server<undefined>;
  try {
    server = attempt(path, () =>
      Bun.serve({
        unix: path,
        development: false, // no stack on stderr for an answer that was cut
        // A capture may see no frame for hours. server.timeout() does nothing for Unix sockets; this does, but has no type.
        ...({ idleTimeout: 0 } as object),
        fetch(request) {
          try {
            if (request.method === "POST" && new URL(request.url).pathname === "/capture")
              return view.capture(request);
            return answer(request, view, stallMs);
          } catch (error) {
            const { message } = error as Error;
            return json({ error: message }, error instanceof QueryError ? 400 : 500);
          }
        },
      }),
    );
  } finally {
    process.umask(umask);
  }
  return {
    async stop() {
      await server.stop(true);
      if (made) {
        try {
          rmdirSync(directory);
        } catch {
          // Somebody else uses it by now.
        }
      }
    },
  };
}
