// The permission server: HTTP over TLS, or over a Unix socket.
//
//   POST /ask              a signed request (request.ts)     {"grant":".."} {"list":".."} {"grants":[..]}, or
//                                                            {"error":{"code":"..","message":".."}} with 403
//   GET /jwks              the issuer's name and keys: the file that a daemon's grants.issuers names
//   GET /revocations       the list; with ?after=VERSION it waits until there is a newer one, so that a revocation is
//                          told as it happens; 204 if there was none for a while
import { Denied } from "./denied.ts";
import type { Desk } from "./desk.ts";
import { type Issuer, thumbprint } from "./keys.ts";
import { readList } from "./revocation.ts";
import type { State } from "./state.ts";

const WAIT_MS = 25_000;
const REQUEST_BYTES = 1 << 17;

export interface ServerOptions {
  readonly desk: Desk;
  readonly state: State;
  /** unix:PATH, https://HOST:PORT, or http:// to serve behind something that has the certificate, loopback only */
  readonly listen: string;
  readonly tls?: { readonly cert: string; readonly key: string } | undefined;
  /** seconds between two lists at most */
  readonly listSeconds: number;
  /** between two looks at what other servers published */
  readonly lookMs?: number;
  /** how long a question for a newer list waits */
  readonly waitMs?: number;
  /** told why lists are not signed, or not looked for, when that changes; "": they are again */
  readonly fault: (message: string) => void;
}

export class GrantServer {
  /** Where it is asked: of a port 0, the one that it got. */
  readonly url: string;
  private readonly options: ServerOptions;
  private readonly server: Bun.Server<undefined>;
  private readonly timers: Timer[] = [];
  private current = { text: "", version: 0 };
  private news = Promise.withResolvers<void>();

  private constructor(options: ServerOptions) {
    this.options = options;
    const { listen, tls } = options;
    const common = {
      development: false,
      maxRequestBodySize: REQUEST_BYTES,
      fetch: (request: Request) => this.answer(request),
    };
    if (listen.startsWith("unix:")) {
      const umask = process.umask(0o117); // bind(2) applies it
      try {
        const wait = { idleTimeout: 0 } as object; // as admin.ts
        this.server = Bun.serve({ ...common, ...wait, unix: listen.slice("unix:".length) });
      } finally {
        process.umask(umask);
      }
      this.url = listen;
      return;
    }
    const { protocol, hostname, port } = new URL(listen);
    const isLoopback = ["127.0.0.1", "[::1]", "localhost"].includes(hostname);
    if (protocol === "https:" ? !tls : protocol !== "http:" || !isLoopback)
      throw new Denied(
        "malformed",
        `listen ${listen}: https with a certificate and its key, unix:PATH, or http on loopback`,
      );
    this.server = Bun.serve({
      ...common,
      idleTimeout: Math.ceil((2 * WAIT_MS) / 1000),
      hostname: hostname.replace(/^\[|\]$/g, ""),
      port: Number(port || (protocol === "https:" ? 443 : 80)),
      ...(tls && { tls: { cert: Bun.file(tls.cert), key: Bun.file(tls.key) } }),
    });
    this.url = `${protocol}//${hostname}:${this.server.port}`;
  }

  /** Answers from then on; the list is signed anew now and then. */
  static async start(options: ServerOptions): Promise<GrantServer> {
    const server = new GrantServer(options);
    try {
      server.take(await options.desk.publish());
    } catch (error) {
      await server.stop();
      throw error;
    }
    const every = (ms: number, action: () => Promise<void>) => {
      let said = "";
      const tell = (message: string) => {
        if (message !== said) options.fault(message);
        said = message;
      };
      const act = () =>
        void action().then(
          () => tell(""),
          (error: Error) => tell(error.message),
        );
      server.timers.push(setInterval(act, ms));
    };
    every((options.listSeconds * 1000) / 2, async () => {
      await options.state.prune(Math.floor(Date.now() / 1000));
      server.take(await options.desk.publish());
    });
    every(options.lookMs ?? 1000, async () => server.take((await options.state.list()) ?? ""));
    return server;
  }

  async stop(): Promise<void> {
    for (const timer of this.timers) clearInterval(timer);
    await this.server.stop(true);
  }

  /** What /revocations says from now on. */
  private take(text: string): void {
    if (text === "" || text === this.current.text) return;
    this.current = { text, version: readList(text, [this.options.desk.issuer]).version };
    this.news.resolve();
    this.news = Promise.withResolvers();
  }

  private async answer(request: Request): Promise<Response> {
    const { pathname, searchParams } = new URL(request.url);
    const page = `${request.method} ${pathname}`;
    try {
      if (page === "GET /jwks") return Response.json(jwks(this.options.desk.issuer));
      if (page === "GET /revocations") return await this.revocations(searchParams.get("after"));
      if (page === "POST /ask") return await this.ask(await request.text());
      return failure(404, "no_page", `no ${page}; there are POST /ask, GET /jwks, GET /revocations`);
    } catch (error) {
      if (error instanceof Denied) return failure(403, error.code, error.message);
      return failure(500, "failed", (error as Error).message);
    }
  }

  private async ask(text: string): Promise<Response> {
    const answer = await this.options.desk.decide(text);
    if ("list" in answer) this.take(answer.list as string);
    return Response.json(answer);
  }

  private async revocations(after: string | null): Promise<Response> {
    const end = Date.now() + (this.options.waitMs ?? WAIT_MS);
    while (after !== null && this.current.version <= Number(after)) {
      const left = end - Date.now();
      if (left <= 0) return new Response(null, { status: 204 });
      await Promise.race([this.news.promise, Bun.sleep(left)]);
    }
    return new Response(this.current.text, { headers: { "content-type": "application/jwt" } });
  }
}

/** A JWKS as others read it too, with the issuer's name. */
const jwks = ({ issuer, keys }: Issuer): object => ({
  issuer,
  keys: keys.map((key) => ({ ...key, kid: thumbprint(key), alg: "EdDSA", use: "sig" })),
});

const failure = (status: number, code: string, message: string): Response =>
  Response.json({ error: { code, message } }, { status });
