// A thread that rewrites frames all the time, word by word: to what may go out, and to what may not. Told where by a message;
// ends when `stop` is not 0.
declare const self: Worker;

export interface Rewriting {
  readonly buffer: SharedArrayBuffer;
  /** words of each frame that are rewritten, and what they are in turn */
  readonly words: readonly (readonly number[])[];
  readonly good: readonly number[];
  readonly bad: readonly number[];
  readonly stop: SharedArrayBuffer;
}

self.onmessage = ({ data }: MessageEvent<Rewriting>) => {
  const { words, good, bad } = data;
  const memory = new Int32Array(data.buffer);
  const stop = new Int32Array(data.stop);
  let rounds = 0;
  while (Atomics.load(stop, 0) === 0) {
    for (const places of words)
      for (const what of [bad, good]) for (const [i, place] of places.entries()) memory[place] = what[i]!;
    rounds++;
  }
  postMessage(rounds);
};
