// What `netd grants ...` does. A grant is a file with a link a line, a key a file with a JWK; what is asked for goes to
// stdout.
import { randomBytes } from "node:crypto";
import { appendFileSync, lstatSync, readFileSync, unlinkSync } from "node:fs";
import * as v from "valibot";
import { listens } from "./admin.ts";
import { Refusal } from "./ask.ts";
import { ask, type Server, ServerError } from "./grants/client.ts";
import { Denied } from "./grants/denied.ts";
import { type Decision, Desk, readDeskPolicy } from "./grants/desk.ts";
import { EtcdError } from "./grants/etcd.ts";
import { admit, inspect as inspectLink, issue as issueLink } from "./grants/grant.ts";
import {
  generateKey,
  parseIssuer,
  publicOf,
  readKey,
  readPublicKey,
  thumbprint,
  writeKey,
} from "./grants/keys.ts";
import { parseJws, typeOf } from "./grants/jws.ts";
import { prove as sign } from "./grants/proof.ts";
import { LIST_BYTES, LIST_TYPE, readList } from "./grants/revocation.ts";
import { detailOf, type Detail, Details } from "./grants/scope.ts";
import { GrantServer } from "./grants/server.ts";
import { openState } from "./grants/state.ts";
import { Watched } from "./grants/watched.ts";
import { print } from "./out.ts";
import { EndSignals } from "./until.ts";

interface Asking {
  readonly server: string;
  readonly key: string;
  readonly ca?: string;
}

const LOOK_MS = 1000;
const ChallengeAnswer = v.object({
  Challenge: v.object({ nonce: v.string(), host: v.string(), client: v.string() }),
});

const now = (): number => Math.floor(Date.now() / 1000);
const json = (value: unknown): Promise<boolean> => print(`${JSON.stringify(value, null, 2)}\n`);
const linksOf = (file: string): string[] =>
  readFileSync(file === "-" ? 0 : file, "utf8")
    .split(/\s+/)
    .filter((line) => line !== "");
const serverOf = ({ server, ca }: Asking): Server => ({
  url: server,
  ...(ca !== undefined && { ca: readFileSync(ca, "utf8") }),
});

function seconds(text: string): number {
  if (/^[1-9][0-9]{0,8}$/.test(text)) return Number(text);
  throw new Denied("malformed", `--seconds is "${text}": expected a number of seconds`);
}

/** Details as they are written on the command line: without their type. */
function detailsOf(texts: readonly string[]): Detail[] {
  const details = texts.map((text) => {
    try {
      return { type: "netd", ...JSON.parse(text) };
    } catch {
      throw new Denied("malformed", `--allow ${text}: no JSON`);
    }
  });
  const result = v.safeParse(Details, details);
  if (result.success) return result.output;
  const [{ path, message }] = result.issues;
  const where = (path ?? []).map(({ key }) => String(key)).join(".");
  throw new Denied("malformed", `--allow ${where}: expected ${message}`);
}

/** What can be expected to fail, as a failure that main.ts prints without where it arose. */
export async function explained<T>(action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (error instanceof Denied) throw new Refusal(`${error.code}: ${message}`);
    if (error instanceof ServerError || error instanceof EtcdError || typeof code === "string")
      throw new Refusal(message);
    throw error;
  }
}

export async function keygen(file: string, { issuer }: { issuer?: string }): Promise<undefined> {
  const key = generateKey();
  writeKey(file, key);
  if (issuer === undefined) await print(`${thumbprint(key)}\n`);
  else await json({ issuer, keys: [publicOf(key)] });
}

/** Takes away the socket of a server that was killed. */
async function clearDead(listen: string): Promise<void> {
  const path = listen.slice("unix:".length);
  if (!listen.startsWith("unix:") || !lstatSync(path, { throwIfNoEntry: false })?.isSocket()) return;
  if (!(await listens(path))) unlinkSync(path);
}

interface Serving {
  readonly policy: string;
  readonly key: string;
  readonly previous?: readonly string[];
  readonly listen: string;
  readonly state: string;
  readonly cert?: string;
  readonly certKey?: string;
  readonly audit?: string;
  readonly listSeconds: string;
}

/** Until SIGINT or SIGTERM. */
export async function serve(given: Serving): Promise<undefined> {
  using end = new EndSignals();
  await using stack = new AsyncDisposableStack();
  const state = await openState(given.state);
  stack.defer(() => state.close());
  const audit = (decision: Decision): void => {
    const line = `${JSON.stringify(decision)}\n`;
    if (given.audit === undefined) process.stdout.write(line);
    else appendFileSync(given.audit, line, { mode: 0o600 });
  };
  const policy = readDeskPolicy(readFileSync(given.policy, "utf8"), given.policy);
  const previous = (given.previous ?? []).map(readPublicKey);
  const desk = new Desk({ policy, key: readKey(given.key), previous, state, audit });
  const { cert, certKey: key } = given;
  const tls = cert !== undefined && key !== undefined ? { cert, key } : undefined;
  const listSeconds = seconds(given.listSeconds);
  await clearDead(given.listen);
  const fault = (message: string): void => console.error(`netd: ${message || "lists are signed again"}`);
  const server = await GrantServer.start({ desk, state, listen: given.listen, tls, listSeconds, fault });
  stack.defer(() => server.stop());
  const watched = new Watched(given.policy, (text) => {
    desk.policy = readDeskPolicy(text, given.policy);
  });
  const timer = setInterval(() => {
    const before = watched.fault;
    watched.look();
    if (watched.fault !== before && watched.fault !== "") console.error(`netd: ${watched.fault}`);
  }, LOOK_MS);
  stack.defer(() => clearInterval(timer));
  console.error(`netd: ${desk.issuer.issuer} at ${server.url}, key ${thumbprint(desk.issuer.keys[0]!)}`);
  const { promise, resolve } = Promise.withResolvers<void>();
  if (end.signal.aborted) return undefined;
  end.signal.addEventListener("abort", () => resolve());
  await promise;
}

interface Issuing extends Asking {
  readonly host: string[];
  readonly allow: readonly string[];
  readonly seconds: string;
  readonly for?: string;
  readonly subject?: string;
}

export async function issue(given: Issuing): Promise<undefined> {
  const { grant } = await ask<{ grant: string }>(
    serverOf(given),
    {
      do: "issue",
      hosts: given.host,
      seconds: seconds(given.seconds),
      details: detailsOf(given.allow),
      ...(given.for !== undefined && { holder: readPublicKey(given.for) }),
      ...(given.subject !== undefined && { subject: given.subject }),
    },
    readKey(given.key),
  );
  await print(`${grant}\n`);
}

export async function renew(file: string, given: Asking): Promise<undefined> {
  const [old = ""] = linksOf(file);
  const { grant } = await ask<{ grant: string }>(
    serverOf(given),
    { do: "renew", grant: old },
    readKey(given.key),
  );
  await print(`${grant}\n`);
}

export async function revoke(
  ids: string[],
  given: Asking & { grant?: string; why?: string },
): Promise<undefined> {
  const { grant, why } = given;
  const what = {
    ids,
    ...(grant !== undefined && { chain: linksOf(grant) }),
    ...(why !== undefined && { why }),
  };
  await ask(serverOf(given), { do: "revoke", ...what }, readKey(given.key));
}

export async function list(given: Asking): Promise<undefined> {
  const { grants } = await ask<{ grants: object[] }>(serverOf(given), { do: "list" }, readKey(given.key));
  await print(`[\n${grants.map((grant) => JSON.stringify(grant)).join(",\n")}\n]\n`);
}

/** Returns 1 if the grant is not good. */
export async function inspect(file: string, given: { issuer?: string; host?: string }): Promise<number> {
  const texts = linksOf(file);
  if (texts[0]?.startsWith("{")) {
    const key = readPublicKey(file);
    await json({ ...key, thumbprint: thumbprint(key) });
    return 0;
  }
  const issuers =
    given.issuer === undefined ? undefined : [parseIssuer(readFileSync(given.issuer, "utf8"), given.issuer)];
  if (typeOf(texts[0] ?? "") === LIST_TYPE) {
    const said = issuers ? readList(texts[0]!, issuers) : parseJws(texts[0]!, LIST_TYPE, LIST_BYTES).claims;
    await json({ ...(said as object), signed: issuers ? "by its issuer" : "not checked" });
    return 0;
  }
  const links = texts.map((text) => inspectLink(text).claims);
  let verdict: object = {};
  let code = 0;
  if (issuers && given.host !== undefined)
    try {
      const permit = admit(texts, { issuers, host: given.host, skew: 0 }, now());
      verdict = { good: true, allows: permit.scopes.map(detailOf), until: permit.until };
    } catch (error) {
      if (!(error instanceof Denied)) throw error;
      verdict = { good: false, code: error.code, message: error.message };
      code = 1;
    }
  await json({ links, ...verdict });
  return code;
}

/** From stdin what netd has answered to "Challenge"; to stdout the request that follows. */
export async function prove(file: string, given: { key: string }): Promise<undefined> {
  const chain = linksOf(file);
  const answer = v.safeParse(ChallengeAnswer, JSON.parse(readFileSync(0, "utf8") || "null"));
  if (!answer.success)
    throw new Denied("malformed", 'stdin: expected {"Challenge":{"nonce":..,"host":..,"client":..}}');
  const { Challenge } = answer.output;
  const hosts = chain.flatMap((link) => [[inspectLink(link).claims.aud].flat()]);
  if (!hosts.every((some) => some.includes(Challenge.host)))
    throw new Denied("wrong_audience", `${Challenge.host} asks, and ${file} is not for it`);
  const proof = await sign(Challenge, chain, readKey(given.key));
  await print(`${JSON.stringify({ Present: { grant: chain, proof } })}\n`);
}

interface Attenuating {
  readonly key: string;
  readonly for: string;
  readonly allow: readonly string[];
  readonly seconds?: string;
  readonly subject?: string;
}

export async function attenuate(file: string, given: Attenuating): Promise<undefined> {
  const links = linksOf(file);
  const parent = links.at(-1) ?? "";
  const { claims } = inspectLink(parent);
  const key = readKey(given.key);
  if (thumbprint(key) !== thumbprint(claims.cnf.jwk))
    throw new Denied("wrong_holder", `${given.key} is not the key that the grant is bound to`);
  const link = await issueLink(
    {
      sub: given.subject ?? claims.sub,
      aud: claims.aud,
      nbf: now(),
      exp: given.seconds === undefined ? claims.exp : now() + seconds(given.seconds),
      jti: randomBytes(16).toString("base64url"),
      holder: readPublicKey(given.for),
      details: detailsOf(given.allow),
    },
    key,
    { parent },
    now(),
  );
  await print(`${[...links, link].join("\n")}\n`);
}
