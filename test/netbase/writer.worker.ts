// The writing side of torture.test.ts: a Worker that changes tables as fast as it can until it is told to stop by
// word 0 of `control`. What it writes shows by itself whether it was read whole: the last two bytes of every
// link-layer address follow from the first four, and every next hop's gateway is its interface.
import { Region, type RegionRef } from "../../src/mem/region.ts";
import type { Capacity } from "../../src/netbase/layout.ts";
import { NetbaseWriter } from "../../src/netbase/netbase.ts";
import { NeighRow } from "../../src/netbase/rows.ts";
import { AF_INET, AF_INET6 } from "../../src/wire/address.ts";
import { link, route } from "./make.ts";

declare const self: Worker;

export interface WriterBoot {
  netbase: RegionRef;
  epochs: RegionRef;
  control: RegionRef;
  capacity: Capacity;
  churn: "neighs" | "routes" | "card";
}

const CREATE = 0x600;
const REPLACE = 0x100;

function churnNeighs(writer: NetbaseWriter, control: Int32Array): void {
  const row = new NeighRow();
  row.lladdrLen = 6;
  row.state = 2;
  const put = (family: number, ifindex: number, ip: number, n: number): void => {
    row.family = family;
    row.ifindex = ifindex;
    row.dst.fill(ip, 0, family === AF_INET ? 1 : 4);
    const tail = Math.imul(n, 0x9e3779b1) >>> 16;
    row.lladdr.set([n, n >> 8, n >> 16, n >> 24, tail, tail >> 8]);
    writer.neighs.upsert(row);
  };
  for (const family of [AF_INET, AF_INET6]) for (let ip = 1; ip <= 64; ip++) put(family, 2, ip, ip);
  writer.commit();
  postMessage("ready");
  for (let n = 1; Atomics.load(control, 0) === 0; n++)
    for (const family of [AF_INET, AF_INET6]) {
      for (let ip = 1; ip <= 32; ip++) put(family, 2, ip, Math.imul(n, 0x01000193) ^ ip); // change in place
      for (let i = 0; i < 200; i++) put(family, 3, 1000 + ((n * 200 + i) % 5000), n); // come
      for (let i = 0; i < 200; i++) {
        row.family = family;
        row.ifindex = 3;
        row.dst.fill(1000 + ((n * 200 + i - 300 + 5000) % 5000), 0, family === AF_INET ? 1 : 4); // and go
        writer.neighs.remove(row);
      }
      writer.commit();
      Atomics.store(control, 1, n);
    }
}

/** 10.77.0.0/24 on link: 8 neighbours that are always there, 8 that come and go. An address' first byte is its host's. */
function churnCard(writer: NetbaseWriter, control: Int32Array): void {
  for (const ifindex of [1, 2]) writer.links.upsert(link(ifindex));
  writer.routes.upsert(route("10.77.0.0/24", [[2]]), CREATE);
  const row = new NeighRow();
  Object.assign(row, { family: AF_INET, ifindex: 2, state: 2, lladdrLen: 6 });
  const put = (host: number, n: number): void => {
    const mac0 = (n << 8) | host;
    const tail = Math.imul(mac0, 0x9e3779b1) >>> 16;
    row.dst[0] = 0x4d0a | (host << 24);
    row.lladdr.set([host, n, n >> 8, n >> 16, tail, tail >> 8]);
    writer.neighs.upsert(row);
  };
  for (let host = 64; host < 72; host++) put(host, 0);
  writer.commit();
  postMessage("ready");
  for (let n = 1; Atomics.load(control, 0) === 0; n++) {
    for (let host = 64; host < 72; host++) put(host, n);
    // In turn from the first and from the last one on: where two want the same slot, it is now the one's, now the other's.
    for (let i = 0; i < 8; i++) put((n & 1) === 0 ? 72 + i : 79 - i, n);
    for (let host = 72; host < 80; host++) {
      row.dst[0] = 0x4d0a | (host << 24);
      writer.neighs.remove(row);
    }
    writer.commit();
    Atomics.store(control, 1, n);
  }
}

/** Stable: 10.0.0.0/8 and 2001:db8::/32 and what is 32..64 below; everything around them comes and goes. */
function churnRoutes(writer: NetbaseWriter, control: Int32Array): void {
  for (let ifindex = 1; ifindex <= 9; ifindex++) writer.links.upsert(link(ifindex));
  const stable = ["10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "10.1.1.128/26", "10.1.2.3/32"];
  const stable6 = [
    "2001:db8::/32",
    "2001:db8:1::/48",
    "2001:db8:1:1::/64",
    "2001:db8:1:1::1/128",
    "2001:db8:1:8000::/49",
  ];
  const via = (ifindex: number, six: boolean) => (six ? `fe80::${ifindex}` : `10.0.0.${ifindex}`);
  for (const text of [...stable, ...stable6])
    writer.routes.upsert(route(text, [[2, via(2, text.includes(":"))]]), CREATE);
  const coming = [
    "0.0.0.0/0",
    "8.0.0.0/6",
    "10.0.0.0/9",
    "10.1.1.128/25",
    "10.1.1.128/27",
    "10.1.1.192/28",
    "10.1.0.0/17",
    "10.1.2.0/24",
    "10.1.2.0/30",
    "10.9.0.0/16",
    "10.1.1.64/26",
    "10.1.2.4/32",
    "::/0",
    "2001::/16",
    "2001:db8::/33",
    "2001:db8:1::/47",
    "2001:db8:1:1::/65",
    "2001:db8:1:1::2/128",
    "2001:db8:1:1::/63",
    "2001:db8:1:8000::/50",
    "2001:db8:ffff::/48",
    "2001:db8:1:1:8000::/66",
  ];
  // In table main all, in table local too: those that cover nothing stable.
  const row = (text: string, ifindex: number) => route(text, [[ifindex, via(ifindex, text.includes(":"))]]);
  const rows = coming.map((text, i) => ({ add: row(text, 3 + (i % 3)), other: row(text, 6 + (i % 3)) }));
  writer.commit();
  postMessage("ready");
  let x = 1;
  const present = new Set<number>();
  for (let n = 1; Atomics.load(control, 0) === 0; n++) {
    for (let i = 0; i < 50; i++) {
      x = (Math.imul(x, 1103515245) + 12345) & 0x7fffffff;
      const which = (x >>> 8) % rows.length;
      const { add, other } = rows[which]!;
      if (!present.has(which)) {
        writer.routes.upsert(add, CREATE);
        present.add(which);
      } else if ((x & 0x80) !== 0) {
        writer.routes.upsert(other, REPLACE);
        writer.routes.upsert(add, REPLACE);
      } else {
        writer.routes.remove(add);
        present.delete(which);
      }
    }
    if (n % 64 === 0) writer.links.upsert(link(3, { flags: n % 128 === 0 ? 0x11043 : 0x11002 }));
    writer.commit();
    Atomics.store(control, 1, n);
  }
}

self.onmessage = ({ data }: MessageEvent<WriterBoot>) => {
  const control = new Int32Array(Region.open(data.control, "read-write").buffer);
  const writer = new NetbaseWriter(
    Region.open(data.netbase, "read-write"),
    Region.open(data.epochs, "read-write"),
    data.capacity,
  );
  ({ neighs: churnNeighs, routes: churnRoutes, card: churnCard })[data.churn](writer, control);
  postMessage("stopped");
};
