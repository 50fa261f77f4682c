// usnetd's weaknesses, each by its name. Where a test belongs depends on what it needs, so they are in many files; all of
// them are called "weakness: NAME", and this is the list. What follows the name says what is so here.
import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const WEAKNESSES = [
  // The control socket: any user can crash or stop it.
  "AddMatch with Ipv6 stops it",
  "QueryUsedPorts, then close, stops it",
  "a full reply queue stops it",
  "a reply over the datagram limit (7,000 rules)",
  "the text `end` stops it",
  "an unparsable src_addr silently becomes a wildcard",
  "the pid is not authenticated",
  "dead clients are found only on the next change",
  // One client against another, and against the card.
  "one frame with the gateway's source MAC poisons the bridge for good",
  "there is no anti-spoofing of IP, port or ARP",
  "any client may steal another's flows, since exact matches outrank its listener",
  "ARP leaks between interfaces",
  "one flooding endpoint starves the rest",
  // What grows without bound.
  "the MAC list grows without bound",
  "the match table grows without bound",
  "the fragment map grows without bound",
  // What is missing, or does not work.
  "IPv6 is missing",
  "ICMP errors are missing, so PMTU discovery is",
  "RST for closed ports is missing",
  "broadcast and multicast are missing",
  "multi-core is missing",
  "wildcard destination address or port, and remote-only forms, do not work",
  "DEBUG_PORTS with a remote do not work for TCP and UDP",
  "/proc/net/tcp6 and udp6 are ignored, so v4-mapped sockets lose their rules",
  // Root, and what it leaves.
  "it runs as root to the end",
  "a crash leaves macvtap and routes behind",
];

/** What tests are called that are about a weakness, of all files. */
function* names(): Generator<string> {
  for (const file of readdirSync(import.meta.dir, { recursive: true, encoding: "utf8" }))
    if (file.endsWith(".test.ts"))
      for (const [, name] of readFileSync(join(import.meta.dir, file), "utf8").matchAll(
        /\btest(?:\.each\([^)]*\))?\(\s*"weakness: ([^"]+)"/g,
      ))
        yield name!;
}

test("each of usnetd's weaknesses has a test by its name, and each such test is about one", () => {
  const found = [...names()];
  expect(WEAKNESSES.filter((weakness) => !found.some((name) => name.includes(weakness)))).toEqual([]);
  expect(found.filter((name) => !WEAKNESSES.some((weakness) => name.includes(weakness)))).toEqual([]);
});
