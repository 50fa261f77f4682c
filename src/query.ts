// The question of /lookup, as text: read from a URL by the admin server and from flags by the command line, so that
// both refuse the same things in the same words.
import { isIP } from "node:net";
import type { LookupOptions } from "./view.ts";

const protocols: Record<string, number> = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58, sctp: 132, udplite: 136 };

/** The question cannot be understood; the message says what was expected. */
export class QueryError extends Error {}

function wholeNumber(name: string, text: string, max: number): number {
  const value = /^(0x[0-9a-f]+|\d+)$/i.test(text) ? Number(text) : Number.NaN;
  if (value <= max) return value;
  throw new QueryError(`${name} is "${text}": expected a whole number from 0 to ${max}`);
}

function address(name: string, text: string): string {
  if (isIP(text) && !text.includes("%")) return text;
  throw new QueryError(`${name} is "${text}": expected an IPv4 or IPv6 address`);
}

function flow(text: string): LookupOptions["flow"] {
  const [name = "", sport, dport, more] = text.split(":");
  if (more !== undefined || (sport === undefined) !== (dport === undefined))
    throw new QueryError(
      `flow is "${text}": expected PROTOCOL:SOURCEPORT:DESTINATIONPORT, such as udp:40000:53`,
    );
  return {
    protocol: protocols[name.toLowerCase()] ?? wholeNumber("flow's protocol", name, 255),
    sport: sport === undefined ? 0 : wholeNumber("flow's source port", sport, 65535),
    dport: dport === undefined ? 0 : wholeNumber("flow's destination port", dport, 65535),
  };
}

const readers = {
  address: (text: string) => ({ address: address("address", text) }),
  from: (text: string) => ({ from: address("from", text) }),
  oif: (text: string) => ({ oif: text }),
  tos: (text: string) => ({ tos: wholeNumber("tos", text, 255) }),
  flow: (text: string) => ({ flow: flow(text) }),
};

/**
 * Reads address (required), from, oif, tos and flow.
 * @throws QueryError for anything else, and for text that does not fit
 */
export function parseLookup(query: URLSearchParams): { address: string; options: LookupOptions } {
  const read: { address?: string } & LookupOptions = {};
  for (const [name, text] of query) {
    if (!Object.hasOwn(readers, name))
      throw new QueryError(`unknown parameter ${name}: expected ${Object.keys(readers).join(", ")}`);
    Object.assign(read, readers[name as keyof typeof readers](text));
  }
  const { address, ...options } = read;
  if (address === undefined) throw new QueryError("address is missing: expected an IPv4 or IPv6 address");
  if (options.from !== undefined && isIP(options.from) !== isIP(address))
    throw new QueryError(`from is "${options.from}": expected an address of the same family as ${address}`);
  return { address, options };
}
