// memif 2.0's control messages: 128 bytes each over a SOCK_SEQPACKET socket, packed, in the machine's byte order, at most
// one fd a message. Both directions are here; a server sends hello, ack, connected, disconnect and takes the others.
//
//   type u16 @0, then
//   1 ack            -
//   2 hello          name[32] @2 | least and most version u16 @34 @36 | most region u16 @38 | most M2S and S2M ring @40 @42
//                    | most log2 of a ring's slots u8 @44
//   3 init           version u16 @2 | id u32 @4 | mode u8 @8 | secret[24] @9 | name[32] @33
//   4 add region     index u16 @2 | bytes u64 @4                                                     + memfd
//   5 add ring       flags u16 @2 (1: S2M) | index u16 @4 | region u16 @6 | offset u32 @8
//                    | log2 of slots u8 @12 | private header u16 @13                                 + eventfd
//   6 connect, 7 connected   name[32] @2
//   8 disconnect     code u32 @2 | reason[96] @6
// Source: libmemif's memif.h, DPDK's drivers/net/memif/memif.h.

export const MESSAGE_BYTES = 128;
export const VERSION = 0x0200;
export const MODE_ETHERNET = 0;
export const MODE_IP = 1;

export type Message =
  | { type: "ack" }
  | {
      type: "hello";
      name: string;
      leastVersion: number;
      mostVersion: number;
      mostRegion: number;
      mostM2s: number;
      mostS2m: number;
      mostLog2: number;
    }
  | { type: "init"; version: number; id: number; mode: number; secret: Uint8Array; name: string }
  | { type: "addRegion"; index: number; bytes: number }
  | {
      type: "addRing";
      s2m: boolean;
      index: number;
      region: number;
      offset: number;
      log2: number;
      privateBytes: number;
    }
  | { type: "connect"; name: string }
  | { type: "connected"; name: string }
  | { type: "disconnect"; code: number; reason: string };

const TYPES = ["", "ack", "hello", "init", "addRegion", "addRing", "connect", "connected", "disconnect"];

/** Text of a field that need not end in a NUL; bytes that are no UTF-8 become U+FFFD. */
function text(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}

/** Writes as much of a text as leaves room for a NUL. */
function put(bytes: Uint8Array, value: string): void {
  bytes.set(new TextEncoder().encode(value).subarray(0, bytes.length - 1));
}

export function encode(message: Message): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(new ArrayBuffer(MESSAGE_BYTES));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, TYPES.indexOf(message.type), true);
  switch (message.type) {
    case "hello":
      put(bytes.subarray(2, 34), message.name);
      view.setUint16(34, message.leastVersion, true);
      view.setUint16(36, message.mostVersion, true);
      view.setUint16(38, message.mostRegion, true);
      view.setUint16(40, message.mostM2s, true);
      view.setUint16(42, message.mostS2m, true);
      view.setUint8(44, message.mostLog2);
      break;
    case "init":
      view.setUint16(2, message.version, true);
      view.setUint32(4, message.id, true);
      view.setUint8(8, message.mode);
      bytes.set(message.secret.subarray(0, 24), 9);
      put(bytes.subarray(33, 65), message.name);
      break;
    case "addRegion":
      view.setUint16(2, message.index, true);
      view.setBigUint64(4, BigInt(message.bytes), true);
      break;
    case "addRing":
      view.setUint16(2, message.s2m ? 1 : 0, true);
      view.setUint16(4, message.index, true);
      view.setUint16(6, message.region, true);
      view.setUint32(8, message.offset, true);
      view.setUint8(12, message.log2);
      view.setUint16(13, message.privateBytes, true);
      break;
    case "connect":
    case "connected":
      put(bytes.subarray(2, 34), message.name);
      break;
    case "disconnect":
      view.setUint32(2, message.code, true);
      put(bytes.subarray(6, 102), message.reason);
      break;
  }
  return bytes;
}

/** Undefined if the bytes are no message: a wrong length, or a type that there is not. Fields are not judged. */
export function decode(bytes: Uint8Array): Message | undefined {
  if (bytes.length !== MESSAGE_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const u16 = (at: number) => view.getUint16(at, true);
  const u32 = (at: number) => view.getUint32(at, true);
  switch (u16(0)) {
    case 1:
      return { type: "ack" };
    case 2:
      return {
        type: "hello",
        name: text(bytes.subarray(2, 34)),
        leastVersion: u16(34),
        mostVersion: u16(36),
        mostRegion: u16(38),
        mostM2s: u16(40),
        mostS2m: u16(42),
        mostLog2: bytes[44]!,
      };
    case 3:
      return {
        type: "init",
        version: u16(2),
        id: u32(4),
        mode: bytes[8]!,
        secret: bytes.slice(9, 33),
        name: text(bytes.subarray(33, 65)),
      };
    case 4:
      return { type: "addRegion", index: u16(2), bytes: Number(view.getBigUint64(4, true)) };
    case 5:
      return {
        type: "addRing",
        s2m: (u16(2) & 1) !== 0,
        index: u16(4),
        region: u16(6),
        offset: u32(8),
        log2: bytes[12]!,
        privateBytes: u16(13),
      };
    case 6:
      return { type: "connect", name: text(bytes.subarray(2, 34)) };
    case 7:
      return { type: "connected", name: text(bytes.subarray(2, 34)) };
    case 8:
      return { type: "disconnect", code: u32(2), reason: text(bytes.subarray(6, 102)) };
    default:
      return undefined;
  }
}
