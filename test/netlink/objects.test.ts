// Objects and messages: what the kernel sends, decoded and encoded again, is the same bytes; and decoders on bytes that
// no kernel sends: made from the schemas, and mutated from real messages. They never throw, never look beyond the
// message. NETD_FUZZ_SECONDS runs longer (for each kind), NETD_SEED repeats a run.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Host } from "../../src/lab/host.ts";
import { Requests } from "../../src/netlink/message.ts";
import { addrs } from "../../src/netlink/object/addr.ts";
import type { Schema, Writing } from "../../src/netlink/object/codec.ts";
import type { Kind } from "../../src/netlink/object/kind.ts";
import { links } from "../../src/netlink/object/link.ts";
import { dataSchemas } from "../../src/netlink/object/linkdata.ts";
import { neighs } from "../../src/netlink/object/neigh.ts";
import { nexthops } from "../../src/netlink/object/nexthop.ts";
import { routes } from "../../src/netlink/object/route.ts";
import { rules } from "../../src/netlink/object/rule.ts";
import { NetlinkSocket } from "../../src/netlink/socket.ts";
import { messageLength, messageType } from "../../src/netlink/message.ts";
import { ethtoolSchemas } from "../../src/netlink/ethtool.ts";
import { familySchema } from "../../src/netlink/genl.ts";
import { netdevSchemas } from "../../src/netlink/netdev.ts";
import { NTF_PROXY } from "../../src/netlink/constants.ts";
import { run } from "./view.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const SECONDS = Number(process.env["NETD_FUZZ_SECONDS"] ?? 0.3);
const LONGEST_MS = SECONDS * 1000 + 30_000;
const SEED = Number(process.env["NETD_SEED"] ?? Date.now() & 0x7fffffff);
const kinds: Kind[] = [links, addrs, routes, nexthops, neighs, rules];
const told: Writing = { request: false, family: 0, ifindex: (link) => link as number };

let state = SEED || 1;
function random(below: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
}

const captured = new Map<Kind, Uint8Array[]>(kinds.map((kind) => [kind, []]));
const kindOf = (type: number) => kinds.find((kind) => (type & ~3) === (kind.type & ~3));

/** All kinds of everything, made by `ip`; what this kernel has no module for is left out. */
const MADE = `
ip link add br0 type bridge vlan_filtering 1; ip link set br0 up; ip link add v0 type veth peer name v1
ip link set v0 master br0 mtu 1300; ip link set v0 up; ip link set v1 up; ip link add mv0 link v1 type macvlan mode bridge
ip link add vl0 link v1 type vlan id 5; ip link add ifbx type ifb; ip tuntap add tap0 mode tap; ip link add dm type dummy
ip link add vrf1 type vrf table 77; ip link add vx type vxlan id 7 dstport 4789 dev v1; ip link add gre1 type gre local 10.0.0.1
ip link property add dev v1 altname second; ip link set v1 alias hello; ip addr add 10.0.0.1/24 dev v1 label v1:x
ip addr add fd00::1/64 dev v1 nodad; ip addr add 10.5.0.1 peer 10.5.0.2/32 dev v1 metric 9
ip addr add fd05::1/64 dev v1 valid_lft 1000 preferred_lft 0; ip addr add fd06::1 peer fd06::2 dev v1 nodad
ip route add 10.1.0.0/16 tos 0x10 via 10.0.0.2 metric 7 mtu 1300 src 10.0.0.1 initcwnd 9 congctl cubic
ip route add 10.2.0.0/16 via inet6 fd00::2 dev v1; ip route add 10.3.0.0/16 nexthop via 10.0.0.2 weight 3 nexthop via inet6 fe80::9 dev v1
ip route add blackhole 10.4.0.0/16 table 1000; ip route add prohibit 10.4.0.0/17 table 4000000000
ip route add 10.7.0.0/16 encap mpls 100 via 10.0.0.2; ip route add 10.71.0.0/16 encap ip id 3 dst 10.0.0.9 dev v1
ip route add 10.8.0.0/16 via 10.0.0.2 metric 3; ip route add default via 10.0.0.3; ip route add 10.81.0.0/16 dev v1
ip -6 route add fd77::/64 nexthop via fd00::2 weight 2 nexthop via fd00::3; ip -6 route add default via fd00::2 pref high expires 100
ip -6 route add fd78::/64 from fd00::/64 via fd00::4; ip -6 route add blackhole fd0a::/64
ip nexthop add id 1 via 10.0.0.2 dev v1; ip nexthop add id 3 blackhole; ip nexthop add id 5 via 10.0.0.3 dev v1 onlink
ip nexthop add id 11 group 1/5 type resilient buckets 8 idle_timer 3; ip nexthop add id 12 group 1,7/5,9
ip route add 10.60.0.0/16 nhid 12; ip neigh add 10.0.0.7 lladdr 02:00:00:00:00:07 dev v1
ip neigh add 10.0.0.8 dev v1 nud none managed; ip neigh add fd00::7 lladdr 02:00:00:00:00:08 dev v1 nud stale router
ip neigh add proxy 10.0.0.66 dev v1; bridge fdb add 02:00:00:00:00:99 dev v0 master vlan 1
ip rule add from 10.0.0.0/24 to 10.9.0.1 iif v1 oif lo fwmark 3/7 table 1000 priority 100
ip rule add not from 1.1.1.1 tos 0x10 goto 32766; ip -6 rule add l3mdev; ip rule add blackhole priority 5 ipproto tcp sport 5-7
ip rule add table main suppress_prefixlength 0 uidrange 0-5; ip rule add fwmark 9 table 4000000000 priority 7
ip route del 10.2.0.0/16; ip neigh del 10.0.0.7 dev v1; ip addr del 10.5.0.1/32 dev v1; ip rule del priority 5; ip nexthop del id 3; ip link del dm`;

let host: Host;
beforeAll(() => {
  host = new Host("objects");
  using socket = new NetlinkSocket({ netns: host.netns, receiveBuffer: 4 << 20 });
  socket.join(1, 3, 5, 7, 8, 9, 11, 19, 32);
  run(host, "sh", "-c", `{ ${MADE} ; } 2>/dev/null; true`);
  const keep = (words: Int32Array, bytes: Uint8Array, off: number, len: number) => {
    const kind = kindOf(messageType(words, off));
    if (kind) captured.get(kind)!.push(bytes.slice(off, off + len));
  };
  for (let n: number; (n = socket.receive()) > 0; )
    for (let i = 0; i < n; i++) {
      let off = socket.offset(i);
      const end = off + socket.length(i);
      for (let len: number; (len = messageLength(socket.words, off, end)) > 0; off += (len + 3) & ~3)
        keep(socket.words, socket.bytes, off, len);
    }
  const dump = (type: number, headerBytes: number, family: number, neighFlags = 0) =>
    host.nl.dump((m) => {
      const off = m.begin(type, 0x300, headerBytes);
      m.bytes[off] = family;
      if (neighFlags) m.words[(off >> 2) + 2] = neighFlags << 16;
    }, keep);
  for (const kind of kinds) for (const family of [0, 2, 10]) dump(kind.type + 2, kind.headerBytes, family);
  dump(neighs.type + 2, 12, 0, NTF_PROXY);
  dump(neighs.type + 2, 12, 7);
  host.nl.dump((m) => {
    m.bytes[m.begin(links.type + 2, 0x300, 16)] = 7;
  }, keep);
});
afterAll(() => host.close());

const ROOM = 1 << 17;
const room = new Int32Array(ROOM / 4);
const roomBytes = new Uint8Array(room.buffer);

/** Decodes `message`, with `background` all around it, wherever it lies. */
function decode(kind: Kind, message: Uint8Array, background: number): object | undefined {
  const off = 64 + (background & 12);
  roomBytes.fill(background, 0, off + message.length + 512);
  roomBytes.set(message, off);
  return kind.decode(room, roomBytes, off, message.length);
}

describe.each(kinds.map((kind) => [kind.name, kind] as const))("%s", (_name, kind) => {
  test("decoded and encoded again: the same bytes", () => {
    const messages = captured.get(kind)!;
    expect(messages.length).toBeGreaterThan(4);
    for (const message of messages) {
      const object = decode(kind, message, 0xa5)!;
      expect(object).toBeDefined();
      const m = new Requests();
      kind.encode(m, kind.type, 0, object, told);
      const again = Buffer.from(m.bytes.subarray(16, m.length)).toString("hex");
      if (again !== Buffer.from(message.subarray(16)).toString("hex")) console.error(object);
      expect(again).toBe(Buffer.from(message.subarray(16)).toString("hex"));
    }
  });

  test(
    `nothing in a message breaks the decoder (NETD_SEED=${SEED})`,
    () => {
      const real = captured.get(kind)!;
      const end = performance.now() + SECONDS * 1000;
      let whole = 0;
      for (let i = 0; i < 50 || performance.now() < end; i++) {
        const message = random(2) ? mutate(real[random(real.length)]!.slice()) : invent(kind);
        const one = decode(kind, message, random(256));
        const two = decode(kind, message, random(256));
        if (!Bun.deepEquals(one, two)) expect(one).toEqual(two);
        if (!one) continue;
        whole++;
        // What it made of it can be written, if a length or name in it is not beyond what the kernel would take.
        try {
          kind.encode(new Requests(), kind.type, 0, one, told);
        } catch (error) {
          expect(error).toSatisfy((e) => e instanceof TypeError || e instanceof RangeError);
        }
      }
      expect(whole).toBeGreaterThan(0);
    },
    LONGEST_MS,
  );
});

function mutate(message: Uint8Array): Uint8Array {
  for (let n = random(4); n >= 0; n--)
    message[16 + random(message.length - 16)] = random(3) ? random(256) : 0;
  return random(4) ? message : message.subarray(0, 16 + random(message.length - 16));
}

const nestsOf = (kind: Pick<Kind, "schema">): Schema[] =>
  kind === links ? [kind.schema, ...Object.values(dataSchemas)] : [kind.schema];

test(
  `generic netlink: nothing in a message breaks a decoder (NETD_SEED=${SEED})`,
  () => {
    const schemas = [familySchema, ...ethtoolSchemas, ...netdevSchemas];
    const end = performance.now() + SECONDS * 1000;
    for (let i = 0; i < 100 || performance.now() < end; i++) {
      const schema = schemas[random(schemas.length)]!;
      const made = invent({ type: 30, headerBytes: 4, schema });
      const message = random(2) ? made : mutate(made);
      const seen = [random(256), random(256)].map((background) => {
        roomBytes.fill(background, 0, message.length + 640);
        roomBytes.set(message, 64);
        const into = {};
        return message.length >= 20 && schema.decode(room, roomBytes, 64 + 20, 64 + message.length, into)
          ? into
          : undefined;
      });
      if (!Bun.deepEquals(seen[0], seen[1])) expect(seen[0]).toEqual(seen[1]);
    }
  },
  LONGEST_MS,
);

/** A message of attributes that the schema knows, with lengths and contents that it may not. */
function invent(kind: Pick<Kind, "type" | "headerBytes" | "schema">): Uint8Array {
  const m = new Requests();
  const off = m.begin(kind.type, 0, kind.headerBytes);
  for (let i = 0; i < kind.headerBytes; i++) if (random(2)) m.bytes[off + i] = random(256);
  if (random(2)) m.bytes[off] = random(2) ? 2 : 10;
  const fill = (depth: number) => {
    const schemas = nestsOf(kind);
    const { fields } = schemas[depth === 0 ? 0 : random(schemas.length)]!;
    for (let n = random(8); n >= 0; n--) {
      const type = random(4) ? random(fields.length + 1) : random(0x4000);
      if (depth < 3 && random(4) === 0) {
        const mark = m.nest(type, random(2) === 0);
        fill(depth + 1);
        m.end(mark);
      } else
        m.raw(
          type,
          Uint8Array.from({ length: [0, 1, 2, 4, 8, 16, 20, random(40)][random(8)]! }, () => random(256)),
        );
    }
  };
  fill(0);
  return m.bytes.slice(0, m.length);
}
