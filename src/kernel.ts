// `netd dump KIND` and `netd monitor [KIND...]`: what the kernel has and does, from any namespace, without a daemon.
// JSON is one object a line, in the shape of `ip -j`; people get the same words in ip's manner.
import { Netlink, type Notice } from "./netlink/netlink.ts";
import { type IpObject, ipJson, type NameOf } from "./netlink/ipjson.ts";
import { definitions, type KindName } from "./netlink/notice.ts";
import { print, printable, type Style } from "./out.ts";

export const KERNEL_KINDS = Object.keys(definitions) as KindName[];

/** "route" and "routes" alike; undefined if it is none. */
export const kernelKind = (name: string): KindName | undefined =>
  KERNEL_KINDS.find((kind) => kind === name || kind === `${name}s`);

export interface KernelOptions {
  netns?: string | undefined;
  json: boolean;
  style: Style;
}

/** Of long output, so much is written at once. */
const LINES = 512;

/** A namespace as the command line gives it: digits are a pid. */
const open = (netns: string | undefined): Promise<Netlink> =>
  Netlink.open(netns === undefined ? {} : { netns: /^\d+$/.test(netns) ? Number(netns) : netns });

/** Names of links as they were when they were asked for last; an unknown index is asked for anew. */
async function linkNames(
  nl: Netlink,
): Promise<{ name: NameOf; refresh(): Promise<void>; known(index: number): boolean }> {
  const names = new Map<number, string>();
  const refresh = async (): Promise<void> => {
    for await (const link of nl.links.dump()) names.set(link.index, link.name);
  };
  await refresh();
  return { name: (index) => names.get(index) ?? `if${index}`, refresh, known: (index) => names.has(index) };
}

const FIRST: Readonly<Record<KindName, readonly string[]>> = {
  links: ["ifindex", "ifname"],
  addrs: ["ifname", "local"],
  routes: ["type", "dst"],
  nexthops: ["id"],
  neighs: ["dst"],
  rules: ["priority"],
};

const word = (value: unknown): string => {
  if (Array.isArray(value)) return value.map(word).join(",");
  if (typeof value === "object" && value !== null)
    return `{${Object.entries(value)
      .map(([key, inner]) => `${key} ${word(inner)}`)
      .join(" ")}}`;
  return printable(String(value));
};

/** One line for people: what identifies it, then key and value. */
function line(kind: KindName, object: IpObject, style: Style): string {
  const first = FIRST[kind];
  const head = first.flatMap((key) => (object[key] === undefined ? [] : [word(object[key])]));
  const rest = Object.entries(object)
    .filter(([key, value]) => !first.includes(key) && !(Array.isArray(value) && value.length === 0))
    .map(([key, value]) =>
      value === null || value === true ? style.faint(key) : `${style.faint(key)} ${word(value)}`,
    );
  return [style.strong(head.join(" ")), ...rest].join(" ");
}

/** Prints all objects of the kind. */
export async function dump(kind: KindName, { netns, json, style }: KernelOptions): Promise<void> {
  await using nl = await open(netns);
  const { name } = await linkNames(nl);
  let lines: string[] = [];
  const flush = async (): Promise<boolean> => {
    const text = lines.join("");
    lines = [];
    return text === "" || print(text);
  };
  for await (const object of nl[kind].dump()) {
    const shown = ipJson(kind, object as never, name);
    lines.push(json ? `${JSON.stringify(shown)}\n` : `${line(kind, shown, style)}\n`);
    if (lines.length >= LINES && !(await flush())) return;
  }
  await flush();
}

/** Prints what happens to the kinds, until nobody reads it or the signal aborts. */
export async function monitor(
  kinds: readonly KindName[],
  { netns, json, style }: KernelOptions,
  signal: AbortSignal,
): Promise<void> {
  await using nl = await open(netns);
  const notices = nl.monitor(kinds.length > 0 ? kinds : KERNEL_KINDS, { signal });
  const links = await linkNames(nl);
  for await (const notice of notices) if (!(await print(`${await told(notice)}\n`))) return;

  async function told(notice: Notice): Promise<string> {
    if (notice.kind === "overrun")
      return json ? '{"overrun":true}' : style.alarm("overrun: the kernel dropped notifications");
    const { kind, event, object } = notice;
    const index = "oif" in object ? object.oif : "link" in object ? object.link : undefined;
    if (kind === "links" || (typeof index === "number" && !links.known(index))) await links.refresh();
    const shown = {
      ...(event === "delete" && { deleted: true }),
      ...ipJson(kind, object as never, links.name),
    };
    if (json) return JSON.stringify({ kind, ...shown });
    const { deleted, ...rest } = shown as IpObject;
    return `${deleted ? style.alarm("deleted ") : ""}${style.faint(kind.slice(0, -1))} ${line(kind, rest, style)}`;
  }
}
