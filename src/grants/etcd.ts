// etcd by its HTTP gateway: keys and values, transactions, leases and watches, as much of it as grants need. Every member may
// be asked; the next one is when one does not answer.
//
//   POST /v3/kv/range|put|txn, /v3/lease/grant, /v3/watch      JSON; keys and values in base64, 64-bit numbers as text
//
// Source: etcd's API reference v3.4, api_grpc_gateway.md.

export interface Kv {
  readonly key: string;
  readonly value: string;
  /** of the key's last change; text, since it has 64 bits */
  readonly revision: string;
}

interface RawKv {
  readonly key: string;
  readonly value?: string;
  readonly mod_revision: string;
}

interface Range {
  readonly header: { readonly revision: string };
  readonly kvs?: RawKv[];
}

interface Watched {
  readonly result?: {
    readonly canceled?: boolean;
    readonly events?: { readonly type?: "DELETE"; readonly kv: RawKv }[];
  };
  readonly error?: { readonly message: string };
}

/** What an answer may take. */
const ANSWER_MS = 5000;

const base64 = (text: string): string => Buffer.from(text).toString("base64");
const text = (encoded = ""): string => Buffer.from(encoded, "base64").toString();
/** The first key after all that begin with this. */
const endOf = (prefix: string): string => {
  const bytes = Buffer.from(prefix);
  bytes[bytes.length - 1]!++;
  return bytes.toString("base64");
};
const kvOf = ({ key, value, mod_revision }: RawKv): Kv => ({
  key: text(key),
  value: text(value),
  revision: mod_revision,
});

export class EtcdError extends Error {}

export class Etcd {
  /** Keys begin with it. */
  readonly prefix: string;
  private readonly members: string[];

  /** @param url etcd://HOST:PORT[,HOST:PORT...]/PREFIX, or etcds:// for TLS */
  constructor(url: string) {
    const [, scheme, hosts, prefix] = /^(etcds?):\/\/([^/]+)(?:\/(.*))?$/.exec(url) ?? [];
    if (hosts === undefined) throw new EtcdError(`${url}: expected etcd://HOST:PORT/PREFIX`);
    this.members = hosts.split(",").map((host) => `${scheme === "etcds" ? "https" : "http"}://${host}`);
    this.prefix = `${prefix || "netd"}/`;
  }

  async get(key: string): Promise<Kv | undefined> {
    const { kvs = [] } = await this.call<Range>("kv/range", { key: base64(this.prefix + key) });
    return kvs[0] && kvOf(kvs[0]);
  }

  /** All keys that begin with this, in order. */
  async all(prefix: string): Promise<Kv[]> {
    const from = this.prefix + prefix;
    const { kvs = [] } = await this.call<Range>("kv/range", { key: base64(from), range_end: endOf(from) });
    return kvs.map(kvOf);
  }

  async put(key: string, value: string): Promise<void> {
    await this.call("kv/put", { key: base64(this.prefix + key), value: base64(value) });
  }

  async delete(key: string): Promise<void> {
    await this.call("kv/deleterange", { key: base64(this.prefix + key) });
  }

  /** Puts it if the key is as it was at `before`; undefined: if there is none. @param seconds that it is kept; for ever */
  async swap(key: string, value: string, before: Kv | undefined, seconds?: number): Promise<boolean> {
    const lease =
      seconds === undefined
        ? undefined
        : (await this.call<{ ID: string }>("lease/grant", { TTL: `${seconds}` })).ID;
    const at = base64(this.prefix + key);
    const { succeeded } = await this.call<{ succeeded?: boolean }>("kv/txn", {
      compare: [{ key: at, target: "MOD", result: "EQUAL", mod_revision: before?.revision ?? "0" }],
      success: [{ request_put: { key: at, value: base64(value), lease } }],
    });
    return succeeded === true;
  }

  /**
   * Tells the key's value and every later one, until `signal` is aborted. @throws EtcdError when the connection ends, and
   * when none is to be had: the caller begins again
   */
  async watch(key: string, heard: (value: string) => void, signal: AbortSignal): Promise<void> {
    const at = base64(this.prefix + key);
    const { header, kvs = [] } = await this.call<Range>("kv/range", { key: at }, signal);
    if (kvs[0]) heard(text(kvs[0].value));
    const start = `${BigInt(header.revision) + 1n}`;
    const response = await this.fetch(
      "watch",
      { create_request: { key: at, start_revision: start } },
      signal,
    );
    for await (const line of lines(response)) {
      const { result, error } = JSON.parse(line) as Watched;
      if (error || result?.canceled) throw new EtcdError(`watch: ${error?.message ?? "canceled"}`);
      for (const { type, kv } of result?.events ?? []) if (type !== "DELETE") heard(text(kv.value));
    }
    if (!signal.aborted) throw new EtcdError("watch: the connection has ended");
  }

  private async call<T>(method: string, body: object, signal?: AbortSignal): Promise<T> {
    const late = AbortSignal.timeout(ANSWER_MS);
    const response = await this.fetch(method, body, signal ? AbortSignal.any([signal, late]) : late);
    return (await response.json()) as T;
  }

  /** Asks the members in turn, beginning with the one that answered last. */
  private async fetch(method: string, body: object, signal: AbortSignal): Promise<Response> {
    const faults: string[] = [];
    for (const member of [...this.members]) {
      try {
        const response = await fetch(`${member}/v3/${method}`, {
          method: "POST",
          body: JSON.stringify(body),
          signal,
        });
        if (response.ok) return response;
        faults.push(`${member}: ${response.status} ${(await response.text()).slice(0, 200)}`);
      } catch (error) {
        if (signal.aborted && signal.reason?.name !== "TimeoutError") throw error;
        faults.push(`${member}: ${(error as NodeJS.ErrnoException).code ?? (error as Error).message}`);
      }
      this.members.push(this.members.shift()!);
    }
    throw new EtcdError(`etcd ${method}: ${faults.join("; ")}`);
  }
}

/** The lines of an answer as they come. */
async function* lines(response: Response): AsyncGenerator<string> {
  let rest = "";
  const decoder = new TextDecoder();
  for await (const bytes of response.body!) {
    const parts = (rest + decoder.decode(bytes, { stream: true })).split("\n");
    rest = parts.pop()!;
    yield* parts.filter((part) => part !== "");
  }
}
