// Asking a permission server: signed requests and what it publishes, by http, https or unix:PATH.
import { Denied, type DenialCode } from "./denied.ts";
import { parseIssuer, type Issuer, type PrivateKey } from "./keys.ts";
import { type Ask, signRequest } from "./request.ts";

export interface Server {
  /** http(s)://HOST:PORT, or unix:PATH */
  readonly url: string;
  /** PEM of who signed its certificate, if the system does not know */
  readonly ca?: string | undefined;
  /** how long one answer may take, for who does not give a signal; 10 s */
  readonly patienceMs?: number;
}

export class ServerError extends Error {}

const PATIENCE_MS = 10_000;

/** GET or POST a page of the server. @throws ServerError where it cannot be reached */
export async function page(
  { url, ca, patienceMs = PATIENCE_MS }: Server,
  path: string,
  init: RequestInit & { signal?: AbortSignal } = {},
): Promise<Response> {
  const isUnix = url.startsWith("unix:");
  if (!isUnix && !/^https?:\/\/[^/]/.test(url))
    throw new ServerError(
      `permission server ${url}: expected https://HOST:PORT, http://HOST:PORT or unix:PATH`,
    );
  try {
    return await fetch(`${isUnix ? "http://grants" : url.replace(/\/$/, "")}${path}`, {
      signal: AbortSignal.timeout(patienceMs),
      ...init,
      ...(isUnix && { unix: url.slice("unix:".length) }),
      ...(ca !== undefined && { tls: { ca } }),
    });
  } catch (error) {
    if (init.signal?.aborted && init.signal.reason?.name !== "TimeoutError") throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    throw new ServerError(`permission server ${url}: ${typeof code === "string" ? code : message}`);
  }
}

/** Its name and keys. */
export async function issuerOf(server: Server): Promise<Issuer> {
  return parseIssuer(await (await page(server, "/jwks")).text(), `${server.url}/jwks`);
}

/** Asks it, signed by `key`. @throws Denied with its reason, ServerError where it cannot be reached or is at fault */
export async function ask<T>(server: Server, ask: Ask, key: PrivateKey): Promise<T> {
  const { issuer } = await issuerOf(server);
  const body = await signRequest(ask, issuer, key, Math.floor(Date.now() / 1000));
  const response = await page(server, "/ask", { method: "POST", body });
  const answer = (await response.json()) as T & { error?: { code: string; message: string } };
  if (response.ok) return answer;
  const { code = "", message = "" } = answer.error ?? {};
  if (response.status === 403) throw new Denied(code as DenialCode, message);
  throw new ServerError(`permission server ${server.url}: ${code} ${message}`);
}
