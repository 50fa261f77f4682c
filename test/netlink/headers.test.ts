// Every number in constants.ts and attribute.ts is the C headers', and no attribute of theirs is missing in a list.
// What is newer than the installed headers (Debian's linux-libc-dev, 6.1) is named here, to be found when they move.
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { attributeLists, type Attributes, prefixOf } from "../../src/netlink/attribute.ts";
import { genlLists } from "../../src/netlink/genlattribute.ts";
import * as constants from "../../src/netlink/constants.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const INCLUDES =
  `errno.h sys/socket.h linux/netlink.h linux/rtnetlink.h linux/if.h linux/if_link.h linux/if_addr.h
  linux/neighbour.h linux/nexthop.h linux/fib_rules.h linux/veth.h linux/genetlink.h linux/ethtool_netlink.h`
    .split(/\s+/)
    .map((name) => `#include <${name}>\n`)
    .join("");

/** Not in 6.1's headers, or only in the kernel itself. */
const NEWER = new Set(
  `IFLA_DEVLINK_PORT IFLA_GSO_IPV4_MAX_SIZE IFLA_GRO_IPV4_MAX_SIZE IFLA_DPLL_PIN IFLA_MAX_PACING_OFFLOAD_HORIZON
  IFLA_NETNS_IMMUTABLE IFLA_HEADROOM IFLA_TAILROOM RTA_FLOWLABEL NHA_OP_FLAGS NHA_GROUP_STATS NHA_HW_STATS_ENABLE
  NHA_HW_STATS_USED FRA_DSCP FRA_FLOWLABEL FRA_FLOWLABEL_MASK FRA_SPORT_MASK FRA_DPORT_MASK FRA_DSCP_MASK
  NTF_EXT_SHIFT`.split(/\s+/),
);
/** Values without a name of their own in C. */
const COMPOSED = new Set(["NLA_F_NESTED", "NLA_TYPE_MASK"]);

function gcc(source: string, ...args: string[]): string {
  const dir = mkdtempSync(join(tmpdir(), "netd-headers-"));
  try {
    writeFileSync(join(dir, "x.c"), source);
    const child = Bun.spawnSync(["gcc", ...args, "x.c"], { cwd: dir });
    if (child.exitCode !== 0) throw new Error(child.stderr.toString());
    if (args.includes("-E")) return child.stdout.toString();
    return Bun.spawnSync([join(dir, "a.out")]).stdout.toString();
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** linux/netdev.h came with 6.3. */
const NEWER_HEADER = /^NETDEV_A_/;
const lists = [...attributeLists, ...genlLists];

const preprocessed = gcc(INCLUDES, "-E", "-dD");
const known = new Set(preprocessed.match(/\b[A-Z][A-Z0-9_]+\b/g));

const ours = new Map<string, number>(
  lists.flatMap((set) => Object.entries(set).map(([name, n]) => [prefixOf(set) + name, n] as const)),
);
for (const [name, value] of Object.entries(constants)) ours.set(name, value);

test("every constant is what C says", () => {
  const names = [...ours.keys()].filter((name) => known.has(name));
  const lines = names.map((name) => `printf("${name} %lld\\n", (long long)(${name}));`).join("\n");
  const said = gcc(`#include <stdio.h>\n${INCLUDES}\nint main(void) {\n${lines}\nreturn 0; }`);
  const wrong = said
    .trim()
    .split("\n")
    .map((line) => line.split(" "))
    .filter(([name, value]) => ours.get(name!) !== Number(value));
  expect(wrong).toEqual([]);
  expect(names.length).toBeGreaterThan(300);
});

test("what the headers do not have is newer than they are, by name", () => {
  const missing = [...ours.keys()].filter((name) => !known.has(name) && !COMPOSED.has(name));
  expect(missing.filter((name) => !NEWER.has(name) && !NEWER_HEADER.test(name))).toEqual([]);
});

test("no attribute of the headers is missing in a list", () => {
  for (const set of lists) {
    if (NEWER_HEADER.test(prefixOf(set))) continue;
    const first = prefixOf(set) + (Object.keys(set)[0] as string);
    const block = new RegExp(`\\{[^{}]*\\b${first}\\b[^{}]*\\}`).exec(preprocessed)?.[0] ?? "";
    const names = (block.match(/^\s*[A-Z][A-Z0-9_]+(?=\s*[,=\n}])/gm) ?? []).map((name) => name.trim());
    expect(names, first).toContain(first);
    const lacking = names.filter(
      (name) => !ours.has(name) && !/^__|_MAX$|_IF_NETNSID$|RES_GROUP_PAD$/.test(name),
    );
    expect(lacking, first).toEqual([]);
  }
});

test("the numbers written out in the hot decoders are those of the lists", () => {
  for (const file of ["route", "neigh", "columns", "object/route", "object/neigh"]) {
    const source = readFileSync(new URL(`../../src/netlink/${file}.ts`, import.meta.url), "utf8");
    const written = [
      ...source.matchAll(/case (\d+): \/\/ ([A-Z_]+)/g),
      ...source.matchAll(/=== (\d+) \/\* ([A-Z_]+) \*\//g),
    ];
    for (const [, type, name] of source.matchAll(/=== 0x([0-9a-f]{4})0008 \/\* ([A-Z_]+) \*\//g))
      expect(ours.get(name!), name).toBe(Number.parseInt(type!, 16));
    if (!file.includes("o")) expect(written.length).toBeGreaterThan(2);
    for (const [, number, name] of written) expect(ours.get(name!), name).toBe(Number(number));
  }
});

test("names within a list are unique and dense", () => {
  for (const set of lists as Attributes[])
    expect(Object.values(set)).toEqual(Object.keys(set).map((_, i) => i));
});
