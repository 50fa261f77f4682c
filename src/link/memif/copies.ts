// A batch of frames taken from a client's ring, or given to it, in one call of WebAssembly (wire/wasm.ts). In JavaScript a frame
// of 64 bytes takes 20 ns, since every word is a load, a store, two shifts and two checks; here 6, descriptor included.
//
// Both end before the first frame that is not the usual one: whose descriptor (ring.ts) is of another region or one part of
// several, that has no bytes or too many, or that is not within the region. Every word of the client's is loaded once.
import { VECTOR } from "../link.ts";
import {
  add,
  all,
  type Code,
  copyBytes,
  Func,
  isSame,
  isUnlike,
  isUpTo,
  load,
  type Operand,
  repeatAll,
  shl,
  shr,
  store,
  sub,
  when,
} from "../../wire/wasm.ts";

const DESCRIPTOR = 16;
/** From a batch's offsets to its lengths, in bytes: frameBatch's. */
export const LENS: number = VECTOR * 4;

/**
 * @param descriptors where the first is; `n` of them, one behind the other @param batch where its offsets are
 * @param room bytes that a frame may have at most @param region its number; `size` bytes from `start` on
 * @returns how many frames
 */
export type Copies = (
  descriptors: number,
  n: number,
  batch: number,
  room: number,
  region: number,
  start: number,
  size: number,
) => number;
const NAMES = ["d", "n", "p", "room", "region", "start", "size"] as const;

/**
 * The loop that both are: as long as `conditions` hold of the next frame's descriptor, of which `first` takes what there is to be
 * known, `then` says what to copy.
 */
function loop(
  memory: WebAssembly.Memory,
  f: Func<typeof NAMES>,
  before: Code,
  first: Code,
  conditions: readonly Operand[],
  then: Code,
): Copies {
  const { d, n, p } = f.parameters;
  const { begin, end } = f.locals("begin", "end");
  const body = all(
    begin.set(p),
    end.set(add(p, shl(n, 2))),
    before,
    when(n, repeatAll(first, conditions, all(then, d.by(DESCRIPTOR), p.by(4)), isUnlike(p, end))),
  );
  return f.over(memory, body, shr(sub(p, begin), 2)) as Copies;
}

/** From a ring, to where the batch says; its lengths are set. */
export function makeTake(memory: WebAssembly.Memory): Copies {
  const f = new Func(...NAMES);
  const { d, p, room, region, start, size } = f.parameters;
  const { length, offset } = f.locals("length", "offset");
  return loop(
    memory,
    f,
    all(room.by(-1), region.set(shl(region, 16))),
    all(length.set(load(d, 4)), offset.set(load(d, 8))),
    [
      isSame(load(d), region),
      isUpTo(sub(length, 1), room),
      isUpTo(offset, size),
      isUpTo(length, sub(size, offset)),
    ],
    all(store(p, length, LENS), copyBytes(load(p), add(start, offset), length)),
  );
}

/** To a ring's empty buffers, from where the batch says; `room` is not looked at. */
export function makeGive(memory: WebAssembly.Memory): Copies {
  const f = new Func(...NAMES);
  const { d, p, region, start, size } = f.parameters;
  const { length, space, offset } = f.locals("length", "space", "offset");
  return loop(
    memory,
    f,
    [],
    all(length.set(load(p, LENS)), space.set(load(d, 4)), offset.set(load(d, 8))),
    [
      isSame(shr(load(d), 16), region),
      length,
      isUpTo(length, space),
      isUpTo(offset, size),
      isUpTo(space, sub(size, offset)),
    ],
    all(store(d, shl(region, 16)), store(d, length, 4), copyBytes(add(start, offset), load(p), length)),
  );
}
