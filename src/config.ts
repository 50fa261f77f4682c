// The configuration: one valibot schema that gives the type, the defaults, the checks, and the JSON Schema.
// sources.ts fills it from file, environment and flags; main.ts hands the result to the daemon, which only reads it.
// Every leaf is optional here and has its default, so that `{}` is a whole configuration: the lab's.
// A message is what was expected, in words: it ends the line `poll.mode is "bsy" (--poll): expected ...`.
import * as v from "valibot";
import { GrantKeys } from "./grantkeys.ts";
import { key, maybe, oneOf, powerOfTwo, section, SocketPath, unique, whole } from "./schema.ts";
import { MemifKeys, SwitchKeys } from "./switchkeys.ts";

/** Of messages, from the most severe on. */
export const LEVELS = ["error", "warn", "info"] as const;

const ifname = "an interface name: 1 to 15 characters without '/', ':' or spaces";
const path = "a path that is not empty";
const queueList = '"all", or a list of different queue numbers from 0 to 1023';
const coreList = "a list of different CPU numbers from 0 to 1023";
const ipAddress = "an IPv4 address";

const Service = v.pipe(
  v.strictObject(
    {
      service: v.pipe(v.literal("echo", '"echo"'), v.description("echo: sends every UDP datagram back")),
      address: maybe(v.pipe(v.string(ipAddress), v.ipv4(ipAddress)), "Only here; else on every own address"),
      port: v.pipe(whole(1, 65535), v.description("UDP port")),
    },
    'a service such as { service = "echo", port = 7 }',
  ),
  v.description("An endpoint inside the daemon"),
);

const capacity = (name: string, fallback: number) =>
  key(whole(1, 1 << 24), `${name} that fit; more are counted and reported, not stored`, fallback);

export const ConfigSchema = v.pipe(
  v.strictObject(
    {
      interface: section(
        {
          name: maybe(
            v.pipe(v.string(ifname), v.regex(/^(?!\.\.?$)[^/:\s]{1,15}$/, ifname)),
            "The network interface to share; without it netd runs the lab",
          ),
          netns: maybe(
            v.pipe(v.string(path), v.minLength(1, path)),
            "Network namespace of the interface: a name under /run/netns, or a path; else the daemon's own",
          ),
          queues: key(
            v.union(
              [
                v.literal("all"),
                v.pipe(
                  v.array(whole(0, 1023), queueList),
                  v.minLength(1, queueList),
                  v.check(unique<number>, queueList),
                ),
              ],
              queueList,
            ),
            "Receive queues to serve, one net Worker each; the kernel keeps the others",
            "all",
          ),
          mode: key(
            oneOf("auto", "native", "skb"),
            "How the XDP program is attached; auto tries native, then skb",
            "auto",
          ),
          copy: key(
            oneOf("auto", "zerocopy", "copy"),
            "How frames reach the UMEM; auto tries zerocopy, then copy",
            "auto",
          ),
        },
        "The card, and how its queues are taken",
      ),
      poll: section(
        {
          mode: key(
            oneOf("busy", "adaptive", "interrupt"),
            "busy never sleeps; adaptive sleeps when idle; interrupt sleeps whenever nothing waits",
            "adaptive",
          ),
          idleMicroseconds: key(
            whole(0, 10_000_000, "microseconds"),
            "adaptive: time without a frame after which a net Worker sleeps",
            200,
          ),
          cores: key(
            v.pipe(v.array(whole(0, 1023), coreList), v.check(unique<number>, coreList)),
            "CPUs to pin the net Workers to, in the order of the queues; empty: not pinned",
            [],
          ),
        },
        "How net Workers wait",
      ),
      rings: section(
        {
          fill: key(powerOfTwo(64, 32768), "Slots of the fill ring", 2048),
          completion: key(powerOfTwo(64, 32768), "Slots of the completion ring", 2048),
          rx: key(powerOfTwo(64, 32768), "Slots of the receive ring", 2048),
          tx: key(powerOfTwo(64, 32768), "Slots of the transmit ring", 2048),
        },
        "AF_XDP rings of one queue",
      ),
      umem: section(
        {
          frames: key(whole(128, 1 << 20, "frames"), "Frames of one queue's UMEM", 8192),
          frameBytes: key(
            v.picklist([2048, 4096], "2048 or 4096"),
            "Least bytes a frame; 4096 are taken where the MTU needs them",
            2048,
          ),
        },
        "Packet memory of one queue",
      ),
      services: key(
        v.array(Service, "a list of services"),
        "Endpoints inside the daemon; the lab adds its own",
        [],
      ),
      switch: SwitchKeys,
      grants: GrantKeys,
      memif: MemifKeys,
      admin: section(
        {
          socket: key(
            SocketPath,
            "Unix socket that `netd show` and `netd lookup` ask; mode 0600",
            "/run/netd/admin.sock",
          ),
        },
        "The admin socket",
      ),
      solicit: section(
        {
          perHostSeconds: key(
            v.pipe(
              v.number("a number of seconds from 0 to 3600"),
              v.minValue(0, "a number of seconds from 0 to 3600"),
              v.maxValue(3600, "a number of seconds from 0 to 3600"),
            ),
            "Least time between two requests for the same neighbour",
            1,
          ),
          perSecond: key(
            whole(1, 1_000_000, "requests"),
            "Most requests a second, over all neighbours",
            1000,
          ),
          burst: key(whole(1, 1_000_000, "requests"), "Requests that may go at once after a quiet time", 256),
        },
        "How often the kernel is asked to resolve neighbours",
      ),
      netbase: section(
        {
          links: capacity("Interfaces", 16384),
          addresses: capacity("Addresses", 65536),
          routes4: capacity("IPv4 routes", 1 << 20),
          routes6: capacity("IPv6 routes", 1 << 18),
          nexthops: capacity("Next hops and legs of groups", 1 << 16),
          neighbours4: capacity("IPv4 neighbours", 1 << 16),
          neighbours6: capacity("IPv6 neighbours", 1 << 16),
        },
        "Capacities of the mirror; memory is used as rows come",
      ),
      netlink: section(
        {
          receiveBytes: key(
            whole(2048, 1 << 30, "bytes"),
            "Receive buffer of the event socket: 832 bytes hold one event",
            32 << 20,
          ),
        },
        "The netlink sockets",
      ),
      log: section(
        {
          level: key(oneOf(...LEVELS), "Least severe message that is printed", "warn"),
          capture: maybe(
            v.pipe(v.string(path), v.minLength(1, path)),
            "File (or pipe) that gets all frames as pcapng, from the start on",
          ),
        },
        "Messages on stderr, and frames in a file",
      ),
    },
    "a table of keys",
  ),
  v.forward(
    v.partialCheck(
      [["umem", "frames"], ["rings"]],
      ({ umem, rings }) => umem.frames >= rings.fill + rings.tx,
      "at least as many frames as rings.fill and rings.tx have slots together",
    ),
    ["umem", "frames"],
  ),
  v.title("netd configuration"),
  v.description("Defaults, then the file, then NETD_* variables, then flags: the later wins, key by key"),
);

/** The effective configuration. */
export type Config = v.InferOutput<typeof ConfigSchema>;
export type ServiceConfig = Config["services"][number];

/** A fresh configuration with every default. */
export const defaultConfig = (): Config => v.parse(ConfigSchema, {});

/** What a run is told beside its configuration. */
export interface RunOptions {
  /** Ends after this many seconds; else at SIGINT or SIGTERM. */
  readonly duration?: number;
  /** One JSON object a second on stdout instead of the live table. */
  readonly json: boolean;
  /** How this program is called, for hints: "./run netd". */
  readonly self: string;
}
