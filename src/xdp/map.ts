// Entries of BPF maps: update and delete by fd, with errors that say which map. And how keys are put together.
import { SysError } from "../../ffi/errno.ts";
import { libbpf } from "../../ffi/libbpf.ts";
import { ptr } from "../../ffi/memory.ts";
import { AF_INET } from "../wire/address.ts";
import { type Match, steerLayout } from "./layout.ts";

const BPF_ANY = 0;
const BPF_NOEXIST = 1;
const ENOENT = 2;
const E2BIG = 7;
const EEXIST = 17;
const ENOSPC = 28;

/** Of an ArrayBuffer of its own, as C needs it. */
export type Words = Uint8Array<ArrayBuffer> | Uint32Array<ArrayBuffer> | Int32Array<ArrayBuffer>;

export const ONE = new Uint32Array(new ArrayBuffer(4)).fill(1);

function put(what: string, map: number, key: Words, value: Words, flags: number): number {
  const result = libbpf().bpf_map_update_elem(map, ptr(key), ptr(value), flags);
  if (result < 0 && result !== -EEXIST)
    throw new SysError(
      `update map ${what}`,
      -result,
      result === -E2BIG || result === -ENOSPC ? "the map is full" : "",
    );
  return result;
}

/** Puts an entry in, in place of one that is there. */
export const update = (what: string, map: number, key: Words, value: Words): void => {
  put(what, map, key, value, BPF_ANY);
};

/** False if it was there. */
export const insert = (what: string, map: number, key: Words, value: Words = ONE): boolean =>
  put(what, map, key, value, BPF_NOEXIST) === 0;

/** False if it was not there. */
export function remove(what: string, map: number, key: Words): boolean {
  const result = libbpf().bpf_map_delete_elem(map, ptr(key));
  if (result < 0 && result !== -ENOENT) throw new SysError(`delete from map ${what}`, -result);
  return result === 0;
}

/** Writes an address: one word for IPv4, the rest stays 0. */
export function setAddress(key: DataView, offset: number, family: number, address: Int32Array): void {
  for (let i = 0; i < (family === AF_INET ? 1 : 4); i++) key.setInt32(offset + 4 * i, address[i]!, true);
}

/** Key of `matches`. */
export function matchKey(match: Match): Uint8Array<ArrayBuffer> {
  const at = steerLayout.match_key;
  const key = new DataView(new ArrayBuffer(at.sizeof));
  setAddress(key, at.addr, match.family, match.address);
  key.setUint16(at.port, match.port); // network byte order
  match.vlans?.forEach((id, i) => {
    key.setUint16(at.vlan + 2 * i, id, true);
  });
  key.setUint8(at.proto, match.proto);
  key.setUint8(at.family, match.family);
  return new Uint8Array(key.buffer);
}
