// `netd --demo grants`: signed grants in the lab, all of it real. A permission server; the daemon on a card whose clients need a
// grant; client one, which asks for one and echoes what the other side's kernel sends to its port; client two, which has
// none and is refused. Halfway an administrator revokes the grant while frames flow, and client one is told.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { attach, type Refused, udp } from "../client/client.ts";
import type { Config, RunOptions } from "../config.ts";
import { Daemon } from "../daemon.ts";
import { ask } from "../grants/client.ts";
import { Desk, readDeskPolicy } from "../grants/desk.ts";
import { generateKey, thumbprint } from "../grants/keys.ts";
import { GrantServer } from "../grants/server.ts";
import { openState } from "../grants/state.ts";
import { print } from "../out.ts";
import { grouped } from "../table.ts";
import { Thread } from "../thread.ts";
import { untilStopped } from "../until.ts";
import { parseIPv4 } from "../wire/address.ts";
import { labSockets, tidily } from "./demo.ts";
import { Lab } from "./lab.ts";
import { TRAFFIC_COUNTERS } from "./worker.ts";

const OWN = "10.77.0.1";
const PORT = 9000;
const HOST = "lab";
/** Seconds until the grant is revoked, if the run has no end. */
const REVOKED_AFTER = 5;
const LIST_SECONDS = 60;

/** What happens, as a line for people or as JSON. */
class Story {
  private readonly json: boolean;
  private readonly start = performance.now();

  constructor(json: boolean) {
    this.json = json;
  }

  async tell(who: string, what: string, more: object = {}): Promise<void> {
    const seconds = (performance.now() - this.start) / 1000;
    const t = Math.round(seconds * 1000) / 1000;
    if (this.json) await print(`${JSON.stringify({ t, who, what, ...more })}\n`);
    else await print(`${seconds.toFixed(1).padStart(5)} s  ${who.padEnd(18)} ${what}\n`);
  }
}

/** Runs the demo until its time is over or it is interrupted. Returns the exit code. */
export async function runGrants(given: Config, options: RunOptions): Promise<number> {
  const scratch = mkdtempSync(join(tmpdir(), "netd-grants-"));
  const story = new Story(options.json);
  const { result, left } = await tidily(labSockets(given).files, async (end) => {
    try {
      return await show(given, options, story, scratch, end);
    } finally {
      rmSync(scratch, { recursive: true });
    }
  });
  if (result)
    await story.tell("netd", left.length === 0 ? "nothing left behind" : `left behind: ${left}`, { left });
  return left.length === 0 ? 0 : 1;
}

/** Keys, a policy, and a server on a Unix socket that goes by it. */
async function permissions(scratch: string) {
  const [issuer, one, admin] = [generateKey(), generateKey(), generateKey()];
  const policy = `
    issuer = "netd's lab"
    [[who]]
    name = "one"
    keys = ["${thumbprint(one)}"]
    [[who.allow]]
    protocols = ["udp"]
    addresses = ["${OWN}"]
    ports = [[9000, 9099]]
    [[who]]
    name = "administrator"
    keys = ["${thumbprint(admin)}"]
    admin = true`;
  const state = await openState("sqlite::memory:");
  const desk = new Desk({ policy: readDeskPolicy(policy, "policy"), key: issuer, state, audit() {} });
  const listen = `unix:${join(scratch, "grants.sock")}`;
  const server = await GrantServer.start({ desk, state, listen, listSeconds: LIST_SECONDS, fault() {} });
  writeFileSync(join(scratch, "issuer.jwks"), JSON.stringify(desk.issuer));
  const stop = async () => {
    await server.stop();
    state.close();
  };
  return { url: server.url, one, admin, stop };
}

async function show(
  given: Config,
  options: RunOptions,
  story: Story,
  scratch: string,
  end: AbortSignal,
): Promise<true> {
  await using stack = new AsyncDisposableStack();
  const lab = stack.use(Lab.create());
  const { url, one, admin, stop } = await permissions(scratch);
  stack.defer(stop);
  await story.tell("permission server", `serves ${url}`);
  const { switch: switched, memif } = labSockets(given);
  const daemon = await Daemon.start(
    {
      ...given,
      interface: { ...given.interface, name: lab.ifname, netns: lab.daemon.path },
      switch: switched,
      memif,
      grants: {
        ...given.grants,
        host: HOST,
        interfaces: ["*"],
        issuers: [join(scratch, "issuer.jwks")],
        revocations: [url],
        directory: scratch,
      },
    },
    end,
  );
  stack.defer(() => daemon.stop());
  await story.tell("netd", `shares ${lab.ifname}, and asks its clients for grants`);

  const details = [{ type: "netd" as const, protocols: ["udp"], addresses: [OWN], ports: [PORT] }];
  const wish = { do: "issue" as const, hosts: [HOST], seconds: 3600, details };
  const { grant } = await ask<{ grant: string }>({ url }, wish, one);
  await story.tell("client one", `has asked for UDP port ${PORT} of ${OWN}, and got grant 1`);
  const place = { interface: lab.ifname, server: switched.sockets[0]!, directory: scratch };
  const lost = Promise.withResolvers<Refused>();
  const echo = await udp.bind({
    ...place,
    hostname: OWN,
    port: PORT,
    grant: { chain: [grant], key: one },
    socket: {
      batch(_socket, batch) {
        for (let i = 0; i < batch.n; i++) batch.reply(i);
      },
      error: (_socket, error) => lost.resolve(error as Refused),
    },
  });
  stack.defer(() => echo.close());
  await story.tell("client one", "presents it, has a channel and its port, and echoes");
  const refused = await refusal(() => attach(place));
  await story.tell("client two", `has no grant: ${refused.message}`, { code: refused.code });

  const traffic = new Thread("traffic", "traffic", TRAFFIC_COUNTERS);
  stack.defer(() => traffic.close());
  const [source, destination] = ["10.77.0.2", OWN].map((text) => parseIPv4(text)!) as [number, number];
  const flow = { name: "echo", source, destination, port: PORT, payloadBytes: 64, window: 64 };
  await traffic.boot({ netnsFd: lab.peer.fd, flows: [flow] }, "ready");

  let before = 0;
  const tick = () => {
    const { sent, received } = traffic.control.counters.snapshot();
    void story.tell("other side", `${grouped(received - before)} answers more`, { sent, received });
    before = received;
  };
  const { duration } = options;
  const failures = [daemon.failed, traffic.failed];
  const half = duration === undefined ? REVOKED_AFTER : duration / 2;
  await untilStopped(half, tick, end, failures);
  if (end.aborted) return true;
  tick(); // what is told of after the revocation came after it

  await story.tell("administrator", "revokes grant 1");
  const since = performance.now();
  await ask({ url }, { do: "revoke", ids: ["1"], why: "the demo" }, admin);
  const why = await Promise.race([lost.promise, ...failures]);
  const ms = Math.round(performance.now() - since);
  await story.tell("client one", `has lost its channel ${ms} ms later: ${why.message}`, {
    code: why.code,
    ms,
  });
  const again = await refusal(() => attach({ ...place, grant: { chain: [grant], key: one } }));
  await story.tell("client one", `presents it again: ${again.message}`, { code: again.code });
  await untilStopped(duration === undefined ? undefined : half, tick, end, failures);
  return true;
}

/** What netd refuses a client by. @throws Error if it does not */
async function refusal(action: () => Promise<{ close(): void }>): Promise<Refused> {
  try {
    (await action()).close();
  } catch (error) {
    return error as Refused;
  }
  throw new Error("netd let in a client that has no grant");
}
