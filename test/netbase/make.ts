// What the netbase tests share: a small writer with a reader over a read-only mapping, and rows from text.
import { epochBytes } from "../../src/mem/epoch.ts";
import { Region } from "../../src/mem/region.ts";
import { type Capacity, layout } from "../../src/netbase/layout.ts";
import { NetbaseReader, NetbaseWriter } from "../../src/netbase/netbase.ts";
import { AddrRow, LinkRow, NeighRow, RouteRow } from "../../src/netbase/rows.ts";
import { AF_INET, AF_INET6, parseAddress, parseLladdr } from "../../src/wire/address.ts";

export const small: Capacity = {
  links: 64,
  addresses: 64,
  routes4: 5000,
  routes6: 5000,
  nexthops: 1000,
  neighbours4: 500,
  neighbours6: 500,
};

export interface Netbase extends Disposable {
  readonly base: Region;
  readonly epochs: Region;
  readonly writer: NetbaseWriter;
  readonly reader: NetbaseReader;
}

/** A fresh netbase with links 1 (lo) to 4, up, and a reader of it in epoch slot 0 of `readers`. */
export function makeNetbase(capacity: Partial<Capacity> = {}, readers = 2): Netbase {
  const full = { ...small, ...capacity };
  const base = Region.create("netbase", layout(full).bytes);
  const epochs = Region.create("epochs", epochBytes(readers));
  const writer = new NetbaseWriter(base, epochs, full);
  for (let ifindex = 1; ifindex <= 4; ifindex++) writer.links.upsert(link(ifindex));
  writer.commit();
  const reader = NetbaseReader.open(base.ref, epochs.ref, 0);
  return {
    base,
    epochs,
    writer,
    reader,
    [Symbol.dispose]() {
      reader.close();
      base.close();
      epochs.close();
    },
  };
}

export function link(ifindex: number, change: Partial<LinkRow> = {}): LinkRow {
  const row = new LinkRow();
  row.ifindex = ifindex;
  row.flags = 0x11043;
  row.mtu = 1500;
  row.type = 1;
  row.operstate = 6;
  row.lladdrLen = 6;
  row.lladdr.set([2, 0, 0, 0, 0, ifindex]);
  row.name = ifindex === 1 ? "lo" : `eth${ifindex}`;
  return Object.assign(row, change);
}

/** "10.0.0.1/24" on an interface. */
export function addr(ifindex: number, text: string, change: Partial<AddrRow> = {}): AddrRow {
  const [address, len] = text.split("/");
  const { family, words } = parseAddress(address!)!;
  const row = new AddrRow();
  row.family = family;
  row.ifindex = ifindex;
  row.prefixLen = Number(len);
  row.local.set(words);
  row.peer.set(words);
  return Object.assign(row, change);
}

export type Leg = [ifindex: number, gateway?: string, weight?: number];

/** "10.0.0.0/8" with its legs; table main, unicast, protocol static unless `change` says otherwise. */
export function route(text: string, legs: Leg[], change: Partial<RouteRow> = {}): RouteRow {
  const [address, len] = text.split("/");
  const { family, words } = parseAddress(address!)!;
  const row = new RouteRow();
  row.family = family;
  row.dst.set(words);
  row.dstLen = Number(len);
  row.table = 254;
  row.type = 1;
  row.protocol = 4;
  if (family === AF_INET6) row.priority = 1024;
  for (const [ifindex, gateway, weight] of legs) {
    const leg = row.legs.add();
    row.legs.ifindex[leg] = ifindex;
    row.legs.weight[leg] = weight ?? 1;
    const via = gateway === undefined ? undefined : parseAddress(gateway)!;
    if (!via) continue;
    row.legs.gatewayFamily[leg] = via.family;
    row.legs.gateway.set(via.words, leg * 4);
  }
  return Object.assign(row, change);
}

export function neigh(ifindex: number, text: string, lladdr: string, state = 2): NeighRow {
  const { family, words } = parseAddress(text)!;
  const row = new NeighRow();
  row.family = family;
  row.ifindex = ifindex;
  row.state = state;
  row.dst.set(words);
  const bytes = lladdr === "" ? new Uint8Array(0) : parseLladdr(lladdr)!;
  row.lladdrLen = bytes.length;
  row.lladdr.set(bytes);
  return row;
}

export const words = (text: string): Int32Array => parseAddress(text)!.words;

/** The record that a lookup of either family gives: its word offset. */
export function lookup(reader: NetbaseReader, text: string): number {
  const { family, words: w } = parseAddress(text)!;
  return family === AF_INET ? reader.fib4.lookup(w[0]!) : reader.fib6.lookup(w[0]!, w[1]!, w[2]!, w[3]!);
}
