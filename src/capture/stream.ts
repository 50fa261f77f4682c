// Captures over the admin socket and into files.
//   curl -X POST --unix-socket /run/netd/admin.sock --data-binary @filter http://netd/capture | wireshark -k -i -
// The body is a classic BPF program as struct sock_filter[], or empty; the answer is pcapng for as long as it is read.
import { closeSync, openSync, writeSync } from "node:fs";
import { decode, type Program, ProgramError } from "../filter/program.ts";
import { verify } from "../filter/verify.ts";
import type { Captures, Session } from "./capture.ts";
import { FILTER_BYTES } from "./region.ts";

const refuse = (status: number, error: string): Response => Response.json({ error }, { status });

/** Answers POST /capture. */
export async function captureResponse(captures: Captures, request: Request): Promise<Response> {
  const body = new Uint8Array(await request.arrayBuffer());
  if (body.length > FILTER_BYTES)
    return refuse(400, `the filter has more than ${FILTER_BYTES / 8} instructions`);
  let program: Program | undefined;
  if (body.length > 0) {
    try {
      program = decode(body);
    } catch (error) {
      if (!(error instanceof ProgramError)) throw error;
      return refuse(400, `no filter: ${error.message}`);
    }
    const fault = verify(program, true);
    if (fault) return refuse(400, `no filter: ${fault.message}`);
  }
  let session: Session | undefined;
  const stream = new ReadableStream<Uint8Array<ArrayBuffer>>(
    {
      start(controller) {
        session = captures.open(
          {
            write: (bytes) => controller.enqueue(bytes),
            backlog: () => -(controller.desiredSize ?? 0),
            end: () => controller.close(),
          },
          program,
        );
      },
      cancel: () => session?.close(),
    },
    { highWaterMark: 0, size: (bytes) => bytes?.length ?? 0 },
  );
  if (!session) return refuse(503, "as many captures run as there may be");
  return new Response(stream, { headers: { "content-type": "application/x-pcapng" } });
}

/** Writes all of it, however little the file takes at a time. @throws the error of write(2) */
export function writeAll(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
}

/**
 * Captures everything into a file, which is replaced, until it is closed or cannot be written to. @throws the error of open(2)
 * @param failed told why it ends before that
 */
export function captureFile(captures: Captures, path: string, failed: (why: Error) => void): Session {
  const fd = openSync(path, "w", 0o600);
  const session = captures.open({
    write: (bytes) => {
      try {
        writeAll(fd, bytes);
      } catch (error) {
        failed(error as Error);
        throw error;
      }
    },
    backlog: () => 0,
    end: () => {},
  });
  return {
    close() {
      session?.close();
      closeSync(fd);
    },
  };
}
