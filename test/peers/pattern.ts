// The bytes that lwip.c serves and expects, their hash, and curl.
const CHUNK_WORDS = 1 << 18;

/** Words `first`... of the pattern: w(i) = (i * 0x9e3779b1) ^ (i >> 13). */
function words(first: number, out: Uint32Array): void {
  for (let k = 0; k < out.length; k++) {
    const i = first + k;
    out[k] = Math.imul(i, 0x9e3779b1) ^ (i >>> 13);
  }
}

/** Bytes 0..n of the pattern; some megabytes at most. */
export function patternBytes(n: number): Uint8Array<ArrayBuffer> {
  const all = new Uint32Array((n + 3) >> 2);
  words(0, all);
  return new Uint8Array(all.buffer, 0, n);
}

/** SHA-256 of the pattern's first n bytes. */
export function patternHash(n: number): string {
  const hasher = new Bun.CryptoHasher("sha256");
  const chunk = new Uint32Array(CHUNK_WORDS);
  for (let at = 0; at < n; at += chunk.byteLength) {
    words(at / 4, chunk);
    hasher.update(new Uint8Array(chunk.buffer, 0, Math.min(chunk.byteLength, n - at)));
  }
  return hasher.digest("hex");
}

export interface Fetched {
  code: number;
  bytes: number;
  hash: string;
  /** bytes a second */
  rate: number;
}

/** Fetches a URL with curl behind `before` (nsenter...) and hashes what comes. `progress` is told the bytes so far. */
export async function curl(
  url: string,
  before: readonly string[],
  { seconds = 20, args = [] as readonly string[], progress = (_bytes: number): void => {} } = {},
): Promise<Fetched> {
  const child = Bun.spawn([...before, "curl", "-sS", "-g", "-m", String(seconds), ...args, url], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
  });
  const hasher = new Bun.CryptoHasher("sha256");
  const start = performance.now();
  let bytes = 0;
  for await (const part of child.stdout) {
    hasher.update(part);
    bytes += part.length;
    progress(bytes);
  }
  const code = await child.exited;
  return { code, bytes, hash: hasher.digest("hex"), rate: (bytes * 1000) / (performance.now() - start) };
}
