// What sock_diag answers, read: bytes as the kernel lays them out (linux/inet_diag.h), for protocols that the kernel which
// runs this may lack.
import { expect, test } from "bun:test";
import { readSockets } from "../../src/control/sockdiag.ts";
import { AF_INET, AF_INET6, formatAddress } from "../../src/wire/address.ts";
import * as f from "./packets.ts";

const SCTP = 132;
const LISTEN = 10;
const ESTABLISHED = 3; // of an SCTP association
const LOCALS = 17;
const SKV6ONLY = 11;

const address = (text: string): Uint8Array =>
  Uint8Array.from([...f.bytesOf(text), ...Array(12).fill(0)].slice(0, 16));
const host16 = (n: number) => [n & 0xff, n >> 8];
const attribute = (type: number, data: Uint8Array | number[]) => {
  const padding = new Uint8Array(-data.length & 3);
  return f.concat(host16(data.length + 4), host16(type), data, padding);
};
const storage = (family: number, text: string): Uint8Array => {
  const bytes = new Uint8Array(128);
  bytes.set(host16(family));
  bytes.set(f.bytesOf(text), family === AF_INET ? 4 : 8);
  return bytes;
};

function message(
  family: number,
  state: number,
  local: string,
  remote: string,
  ...more: Uint8Array[]
): DataView {
  const ports = f.u16(5000, state === LISTEN ? 0 : 9);
  const head = f.concat([family, state, 0, 0], ports, address(local), address(remote), new Uint8Array(32));
  const bytes = f.concat(head, ...more);
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

const read = (view: DataView, protocol: number) =>
  readSockets(view, protocol).map(({ family, local, localPort, remote, remotePort, both, anyPeer }) => ({
    at: `${formatAddress(family, local)} ${localPort}`,
    from: `${formatAddress(family, remote)} ${remotePort}`,
    both,
    anyPeer,
  }));

test("an SCTP socket is one for each of its addresses, and has its port whoever sends", () => {
  const both = f.concat(storage(AF_INET, "10.0.0.1"), storage(AF_INET, "10.0.0.2"));
  expect(read(message(AF_INET, LISTEN, "10.0.0.1", "0.0.0.0", attribute(LOCALS, both)), SCTP)).toEqual([
    { at: "10.0.0.1 5000", from: "0.0.0.0 0", both: false, anyPeer: true },
    { at: "10.0.0.2 5000", from: "0.0.0.0 0", both: false, anyPeer: true },
  ]);
  expect(read(message(AF_INET, ESTABLISHED, "10.0.0.1", "10.0.0.9", attribute(LOCALS, both)), SCTP)).toEqual([
    { at: "10.0.0.1 5000", from: "10.0.0.9 9", both: false, anyPeer: true },
    { at: "10.0.0.2 5000", from: "10.0.0.9 9", both: false, anyPeer: true },
  ]);
});

test("an IPv6 one takes IPv4 too, by addresses of both families", () => {
  const mixed = f.concat(storage(AF_INET6, "fd00::1"), storage(AF_INET, "10.0.0.1"));
  const only = attribute(SKV6ONLY, [0]);
  expect(read(message(AF_INET6, LISTEN, "fd00::1", "::", only, attribute(LOCALS, mixed)), SCTP)).toEqual([
    { at: "fd00::1 5000", from: ":: 0", both: false, anyPeer: true },
    { at: "10.0.0.1 5000", from: "0.0.0.0 0", both: false, anyPeer: true },
  ]);
  const any = attribute(LOCALS, storage(AF_INET6, "::"));
  expect(read(message(AF_INET6, LISTEN, "::", "::", only, any), SCTP)).toMatchObject([
    { at: ":: 5000", both: true },
  ]);
  const six = attribute(SKV6ONLY, [1]);
  expect(read(message(AF_INET6, LISTEN, "::", "::", six, any), SCTP)).toMatchObject([{ both: false }]);
});

test("others are one, with its peer; what is cut off is not read", () => {
  const tcp = message(AF_INET, 1, "10.0.0.1", "10.0.0.9");
  expect(read(tcp, 6)).toEqual([{ at: "10.0.0.1 5000", from: "10.0.0.9 9", both: false, anyPeer: false }]);
  const cut = message(AF_INET, LISTEN, "10.0.0.1", "0.0.0.0", f.concat(host16(200), host16(LOCALS)));
  expect(read(cut, SCTP)).toHaveLength(1);
});
