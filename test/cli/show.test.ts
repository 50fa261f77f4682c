import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { lists, serveAdmin } from "../../src/admin.ts";
import { fake } from "./fake.ts";
import { netd } from "./netd.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const dir = mkdtempSync(join(tmpdir(), "netd-show-"));
const socket = join(dir, "admin.sock");
let server: Awaited<ReturnType<typeof serveAdmin>>;
beforeAll(async () => {
  server = await serveAdmin(socket, fake);
});
afterAll(async () => {
  await server.stop();
  rmSync(dir, { recursive: true });
});

const shown = async (...args: string[]): Promise<string> => {
  const { code, out, err } = await netd([...args, "--admin", socket]);
  expect(err).toBe("");
  expect(code).toBe(0);
  return out;
};

const golden: Record<string, string> = {
  links: `
INDEX  NAME    STATE      MTU  TYPE      ADDRESS            ON    MASTER  VLAN  FLAGS
    1  lo      UNKNOWN  65536  loopback                                         LOOPBACK UP
70001  eth0.7  UP        1500  vlan      02:00:00:00:00:01  eth0  br0        7  BROADCAST UP
`,
  addrs: `
DEV   ADDRESS      PEER     SCOPE   FLAGS
lo    127.0.0.1/8           host
tun0  fd00::1/128  fd00::2  global  permanent
`,
  routes: `
TABLE  TYPE         DST                      VIA                 DEV             WEIGHT  SRC       METRIC  TOS    MTU  NHID  PROTO   FLAGS
main   unicast      default                  10.0.0.1            eth0                    10.0.0.2     100                    boot
main   unicast      10.9.0.0/16              10.0.0.3|-|fe80::1  eth0|ppp0|eth1  1|20|1                    0x10  1400     5  boot    leg2:dead leg2:linkdown leg3:onlink
main   unreachable  fd00::/8 from fd01::/64                      lo                                                          static
`,
  neighs: `
ADDRESS   DEV      LLADDR             STATE      FLAGS
10.0.0.1  eth0     02:00:00:00:00:02  REACHABLE
10.0.0.9  eth0                        FAILED
fe80::1   e?[2Jil  02:00:00:00:00:03  STALE      router
`,
  queues: `
DEV   QUEUE  MODE  POLL  CORE  RX PACKETS    RX BYTES  TX PACKETS  TX BYTES  DROPS  KERNEL
eth0      0  copy  busy     2   1,234,567  98,765,432          10       640      3  rxDropped=7
`,
  drops: `
REASON    PACKETS  /S  WHAT IT MEANS
runt            0   0  shorter than its headers say
no_match    1,000  12  no service has this address and port
`,
  clients: `
CLIENT   PID   UID  PROGRAM  MAC                QUEUE   UP S  MATCHES  CLAIMS  TO IT  /S  FROM IT   /S  DROPS  /S  WHY
     3  1234  1000  lwip     02:00:00:00:00:01      0  7,200        2       1  1,000  10   20,000  200      7   0  claim_refused=5 tx_full=2
`,
  matches: `
PROTO  OWN ADDRESS, PORT  OTHER SIDE  KIND   CLIENT   PID  PROGRAM  S OLD  S IDLE
tcp    10.0.0.2 8080      * *         match       3  1234  lwip     7,200       1
udp    fd00::/64 *        fd01::1 53  match       3  1234  lwip        10      10
`,
  claims: `
PROTO  OWN ADDRESS, PORT  OTHER SIDE    KIND   CLIENT   PID  PROGRAM  S OLD  S IDLE  S LEFT
tcp    10.0.0.2 40000     10.0.0.9 443  claim       3  1234  lwip       100       5   7,195
udp    3903f326                         dhcp        3  1234  lwip         2       2      58
`,
  grants: `
IDS        ISSUER                  SUBJECT   PID   UID  SECONDS  ALLOWS
17 > q2Vb  https://grants.example  web      1234  1000    3,456  {"protocols":["tcp"],"ports":[8080]} or {"protocols":["icmp"]}
`,
  filters: `
LAYER   WAY  CLIENT   PID   UID  PROGRAM  OF                    SIZE  RUN       PASSED  REFUSED
client  in        3  1234  1000  lwip     udp 10.0.0.2 53         12  compiled   1,234        5
system  out                               deny out tcp port 25    20  compiled       0        7
`,
  summary: `
netd       0.1.0, pid 4242, up 3,600 s
interface  eth0 in blue
services   echo 10.0.0.2:7
clients    /run/usnetd.socket
mirror     in sync with the kernel
routes4    12 of 1,048,576
overruns   0
resyncs    1
warning: policy rule 100 is not followed
`,
};

describe("for people", () => {
  test.each(Object.keys(golden))("show %s", async (what) => {
    expect(await shown("show", what)).toBe(golden[what]!.slice(1));
  });

  test("show alone is the summary", async () => {
    expect(await shown("show")).toBe(golden["summary"]!.slice(1));
  });

  test("lookup", async () => {
    expect(await shown("lookup", "10.1.2.3")).toBe(
      `
to         10.1.2.3
verdict    send
route      unicast default table main proto boot
next hop   10.0.0.1
interface  eth0
source     10.0.0.2
mtu        1500
neighbour  10.0.0.1 02:00:00:00:00:02 REACHABLE
  default in main is the longest prefix
  one leg
`.slice(1),
    );
  });
});

describe("for programs", () => {
  test.each(["summary", ...lists] as const)("show %s --json", async (what) => {
    expect(JSON.parse(await shown("show", what, "--json"))).toEqual(JSON.parse(JSON.stringify(fake[what]())));
  });

  test("lookup --json", async () => {
    expect(JSON.parse(await shown("lookup", "10.1.2.3", "--json"))).toEqual(fake.lookup("10.1.2.3"));
  });
});

describe("long, empty and refused tables", () => {
  const many = join(dir, "many.sock");
  const total = 100_000;
  let long: Awaited<ReturnType<typeof serveAdmin>>;
  beforeAll(async () => {
    long = await serveAdmin(many, {
      ...fake,
      neighs: () => [],
      drops() {
        throw new Error("no counters today");
      },
      *routes() {
        for (let i = 0; i < total; i++)
          yield {
            ...fake.routes()[0]!,
            dst: `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`,
            ...(i === total - 1 && { nhid: 99 }),
          };
      },
    });
  });
  afterAll(async () => await long.stop());

  test("every row comes, and a column that only the last one fills", async () => {
    const { out } = await netd(["show", "routes", "--admin", many]);
    const lines = out.trimEnd().split("\n");
    expect(lines.length).toBe(total + 1);
    expect(lines.at(-1)).toMatch(/10\.1\.134\.159 .* 99 +boot$/);
  });

  test("a reader that has seen enough ends it, without a word", async () => {
    for (const json of [[], ["--json"]]) {
      const { code, out, err } = await netd(["show", "routes", "--admin", many, ...json], { lines: 1 });
      expect(out.length).toBeGreaterThan(0);
      expect(err).toBe("");
      expect(code).toBe(0);
    }
  });

  test("what the daemon refuses is told in its words", async () => {
    expect(await netd(["show", "drops", "--admin", many])).toEqual({
      code: 1,
      out: "",
      err: "netd: no counters today\n",
    });
  });

  test("an empty table says so", async () => {
    expect((await netd(["show", "neighs", "--admin", many])).out).toBe("none\n");
    expect((await netd(["show", "neighs", "--json", "--admin", many])).out).toBe("[\n]\n");
  });
});
