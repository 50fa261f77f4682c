// Numbers that have names in iproute2's rt_tables, rt_protos and rt_scopes. Messages give the number, since anyone may
// name more; requests take either.
export const TABLES = { default: 253, main: 254, local: 255 } as const;
export const PROTOCOLS = {
  unspec: 0,
  redirect: 1,
  kernel: 2,
  boot: 3,
  static: 4,
  gated: 8,
  ra: 9,
  mrt: 10,
  zebra: 11,
  bird: 12,
  dnrouted: 13,
  xorp: 14,
  ntk: 15,
  dhcp: 16,
  mrouted: 17,
  keepalived: 18,
  babel: 42,
  openr: 99,
  bgp: 186,
  isis: 187,
  ospf: 188,
  rip: 189,
  eigrp: 192,
} as const;
export const SCOPES = { global: 0, site: 200, link: 253, host: 254, nowhere: 255 } as const;

/** RT_TABLE_*: 1 to 2^32 - 1, or a name of these. */
export type Table = number | keyof typeof TABLES;
/** RTPROT_*: who made it. */
export type Protocol = number | keyof typeof PROTOCOLS;
/** RT_SCOPE_* */
export type Scope = number | keyof typeof SCOPES;

/** @throws TypeError */
export function number(
  value: number | string,
  names: Readonly<Record<string, number>>,
  most: number,
): number {
  const found = typeof value === "number" ? value : names[value];
  if (found === undefined || !Number.isInteger(found) || found < 0 || found > most)
    throw new TypeError(
      `${value} is neither a number to ${most} nor one of ${Object.keys(names).join(", ")}`,
    );
  return found;
}
export const tableNumber = (table: Table): number => number(table, TABLES, 0xffffffff);
export const protocolNumber = (protocol: Protocol): number => number(protocol, PROTOCOLS, 255);
export const scopeNumber = (scope: Scope): number => number(scope, SCOPES, 255);
