// A batch of frames taken from a client's ring, or given to it, in one call, with SIMD (wire/wasm.ts). In JavaScript a frame of
// 64 bytes takes 20 ns, since every word is a load, a store, two shifts and two checks; here 6, descriptor included.
//
// Both end before the first frame that is not the usual one: whose descriptor (ring.ts) is of another region or one part of
// several, that has less than LEAST bytes or too many, or that is not within the region. Every word of the client's is loaded
// once. 32 bytes are copied at a time, and a frame's last 32 once more, so that nothing behind its end is read or written.
import { VECTOR } from "../link.ts";
import {
  add,
  all,
  type Code,
  copyBytes,
  Func,
  isBelow,
  isSame,
  isUnlike,
  isUpTo,
  load,
  type Local,
  type Operand,
  repeat,
  repeatAll,
  shl,
  shr,
  store,
  sub,
  vector,
  when,
} from "../../wire/wasm.ts";

/** Shortest frame that they take. */
const LEAST = 32;
/** From here on the C library's copy is worth its call: its registers are wider. */
const LONG = 1000;
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

/** Copies LEAST bytes or more; `to`, `from` and `stop` are used up. */
function copy(to: Local, from: Local, length: Local, stop: Local): Code {
  const move = (offset: number) => vector.store(to, vector.load(from, offset), offset);
  const advance = (by: number) => all(to.by(by), from.by(by));
  const block = all(move(0), move(16), move(32), move(48), advance(64));
  const isLeft = (bytes: number) => isBelow(add(to, bytes), stop);
  const short = all(
    stop.set(add(to, length)),
    when(isLeft(64), repeat(block, isLeft(64))),
    when(isLeft(LEAST), all(move(0), move(16), advance(LEAST))),
    // What is left over: the last LEAST bytes, a part of them again.
    from.by(sub(sub(stop, LEAST), to)),
    to.set(sub(stop, LEAST)),
    all(move(0), move(16)),
  );
  return when(isBelow(length, LONG), short, copyBytes(to, from, length));
}

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
  const { most, length, offset, to, from, stop } = f.locals(
    ...(["most", "length", "offset", "to", "from", "stop"] as const),
  );
  return loop(
    memory,
    f,
    all(most.set(sub(room, LEAST)), region.set(shl(region, 16))),
    all(length.set(load(d, 4)), offset.set(load(d, 8))),
    [
      isSame(load(d), region),
      isUpTo(sub(length, LEAST), most),
      isUpTo(offset, size),
      isUpTo(length, sub(size, offset)),
    ],
    all(store(p, length, LENS), from.set(add(start, offset)), to.set(load(p)), copy(to, from, length, stop)),
  );
}

/** To a ring's empty buffers, from where the batch says; `room` is not looked at. */
export function makeGive(memory: WebAssembly.Memory): Copies {
  const f = new Func(...NAMES);
  const { d, p, region, start, size } = f.parameters;
  const { length, space, offset, to, from, stop } = f.locals(
    ...(["length", "space", "offset", "to", "from", "stop"] as const),
  );
  return loop(
    memory,
    f,
    [],
    all(length.set(load(p, LENS)), space.set(load(d, 4)), offset.set(load(d, 8))),
    [
      isSame(shr(load(d), 16), region),
      isUpTo(LEAST, length),
      isUpTo(length, space),
      isUpTo(offset, size),
      isUpTo(space, sub(size, offset)),
    ],
    all(
      store(d, shl(region, 16)),
      store(d, length, 4),
      to.set(add(start, offset)),
      from.set(load(p)),
      copy(to, from, length, stop),
    ),
  );
}
