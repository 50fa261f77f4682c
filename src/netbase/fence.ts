// The reader's barrier for memory that it may only read, where `Atomics.load` would fault (it writes).
const dummy = new Int32Array(1);

/** Keeps the loads before it before, and those after it after. Always true. */
export function fence(): boolean {
  Atomics.load(dummy, 0);
  return true;
}
