// Filters in the manner of pflua-bench: expressions over made and captured traffic (traffic.ts), ns a frame. Compiled JavaScript
// (src/filter/compile.ts) against libpcap's interpreter in C (peers/filter.c), against the kernel's JIT (ebpf.ts), and
// against our own interpreter. The best pass of each side counts.
// Then filters in the switch: the whole way of a frame to a client whose match has a filter, with 1 to 10,000 of them that
// differ in addresses and ports (crossing.ts); and of a frame to a group of which no member's filter takes it (members.ts).
// Verification: all four take the same number of every kind's frames; of a group's filters, only who is asked for is run.
import { join } from "node:path";
import { writeFileSync } from "node:fs";
import { pcapCompile } from "../ffi/libpcap.ts";
import { compile } from "../src/filter/compile.ts";
import { interpreter, place } from "../src/filter/interpret.ts";
import { plainMeta } from "../src/filter/packet.ts";
import { decode, encode, type Program } from "../src/filter/program.ts";
import { PART, sourceInPlace } from "../src/filter/source.ts";
import { KernelJit } from "./ebpf.ts";
import { type Bench, type Context, compilePeer, runChild, type Sample, script } from "./harness.ts";
import { Setup } from "./switch.ts";
import { ALIGN, FRAMES, type Kind, KINDS, read, type Traffic, trafficFile, write } from "./traffic.ts";

const INSTALLED = [10, 100, 1000, 10_000];
const MEMBERS = [1000, 10_000];
const JIT_SAMPLES = 16;

/** Compiled in parts (source.ts). */
const LIST = Array.from({ length: 100 }, (_, i) => `host 10.${i}.${(i * 7) & 255}.${(i * 13) & 255}`).join(
  " or ",
);
const EXPRESSIONS = [
  "",
  "icmp",
  "tcp src port 80",
  "tcp port 80",
  "portrange 0-6000",
  "src net 10.0.0.0/8 and udp dst port 53",
  "tcp port 80 and (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0)",
  "host 10.1.2.3 or host 10.1.2.4 or net 10.2.0.0/16 or ip6 host fd00::1",
  LIST,
];
const nameOf = (text: string): string => (text === LIST ? "one of 100 hosts" : text || "(all)");

const programs = (): Program[] => EXPRESSIONS.map((text) => decode(pcapCompile(text)));

/** A loop over all frames with the filter in it, as the kernel's side has it: a call costs as much as many a filter. */
const loop = (before: string, body: string): string =>
  `${before} return () => { let taken = 0; for (let n = 0; n < lens.length; n++) { const off = offs[n], len = lens[n]; let verdict = 0; ${body} if (verdict !== 0) taken++; } return taken; }`;

const makePass = {
  compiled: (program: Program, { bytes, offs, lens }: Traffic) =>
    new Function(
      ...["bytes", "offs", "lens", "place", "meta"],
      loop(
        "const w = new Int32Array(bytes.buffer), u = bytes;",
        `frame: { ${sourceInPlace(program, ALIGN, "frame")} }`,
      ),
    )(bytes, offs, lens, place, plainMeta()) as () => number,
  called: (program: Program, { bytes, offs, lens }: Traffic) =>
    new Function("filter", "offs", "lens", loop("", "verdict = filter(off, len);"))(
      compile(program, bytes, plainMeta(), ALIGN),
      offs,
      lens,
    ) as () => number,
  interpreted: (program: Program, { bytes, offs, lens }: Traffic) =>
    new Function("filter", "offs", "lens", loop("", "verdict = filter(off, len);"))(
      interpreter(program, bytes, plainMeta()),
      offs,
      lens,
    ) as () => number,
};
type How = keyof typeof makePass;

/** Our side as a child: ns a frame of every expression. */
function child(kind: Kind, how: How, seconds: number): void {
  const { bytes, offs, lens } = read(kind);
  for (const [i, program] of programs().entries()) {
    const isLong = program.length > PART && how === "compiled";
    const pass = makePass[isLong ? "called" : how](program, { bytes, offs, lens });
    let best = Number.POSITIVE_INFINITY;
    let taken = 0;
    for (const end = performance.now() + seconds * 1000; performance.now() < end; ) {
      const start = Bun.nanoseconds();
      taken = pass();
      best = Math.min(best, (Bun.nanoseconds() - start) / FRAMES);
    }
    console.log(JSON.stringify({ case: `${i}`, value: best }));
    console.log(JSON.stringify({ case: `${i} taken`, value: taken }));
  }
}

/** The kernel's side: a sample of the frames, each many times. */
function kernel(kind: Kind): Sample {
  const { bytes, offs, lens } = read(kind);
  const sample: Sample = {};
  for (const [i, program] of programs().entries()) {
    using jit = new KernelJit(program);
    const filter = interpreter(program, bytes, plainMeta());
    let ns = 0;
    for (let n = 0; n < JIT_SAMPLES; n++) {
      const frame = (n * FRAMES) / JIT_SAMPLES;
      const at = offs[frame]!;
      const len = lens[frame]!;
      const [verdict, cost] = jit.run(bytes.subarray(at, at + len));
      if (verdict !== filter(at, len))
        throw new Error(`the kernel says ${verdict} for "${nameOf(EXPRESSIONS[i]!)}"`);
      ns += cost / JIT_SAMPLES;
    }
    sample[`${i}`] = ns;
  }
  return sample;
}

async function peer(kind: Kind, seconds: number): Promise<Sample> {
  const program = compilePeer("filter", ["-l:libpcap.so.0.8"]);
  const file = join(import.meta.dir, "..", "build", "filter-programs.bin");
  const all = programs();
  const parts = all.flatMap((program) => [Uint32Array.of(program.length), encode(program)]);
  writeFileSync(
    file,
    Buffer.concat([Uint32Array.of(all.length), ...parts].map((part) => Buffer.from(part.buffer))),
  );
  return await runChild([program, file, trafficFile(kind), `${seconds}`]);
}

const ours = (kind: Kind, how: string, seconds: number) =>
  runChild(script(import.meta.path, kind, how, `${seconds}`));

const members = (count: number, seconds: string) =>
  runChild(script(join(import.meta.dir, "members.ts"), `${count}`, seconds));

async function verify(ctx: Context): Promise<void> {
  for (const kind of KINDS) {
    await write(kind);
    const sides = [
      await ours(kind, "compiled", 0.01),
      await ours(kind, "interpreted", 0.01),
      await peer(kind, 0.01),
    ];
    kernel(kind);
    for (const [i, text] of EXPRESSIONS.entries()) {
      const taken = sides.map((side) => side[`${i} taken`]!);
      if (new Set(taken).size !== 1)
        throw new Error(`"${nameOf(text)}" of ${kind}: taken ${taken.join(", ")}`);
    }
  }
  ctx.note("compiled, interpreted, libpcap and the kernel agree");
  for (const count of [1, ...MEMBERS]) await members(count, "0.01");
}

async function run(ctx: Context): Promise<void> {
  const seconds = ctx.seconds ?? 0.1;
  const named = (kind: Kind, sample: Sample): Sample =>
    Object.fromEntries(EXPRESSIONS.map((text, i) => [`${kind}: ${nameOf(text)}`, sample[`${i}`]!]));
  for (const kind of KINDS) {
    const compiled = async () => named(kind, await ours(kind, "compiled", seconds));
    const against = (peerName: string, side: () => Promise<Sample>) =>
      ctx.compare({ unit: "ns/frame", better: "lower", peerName, ours: compiled, peer: side });
    await against("libpcap's interpreter, C", async () => named(kind, await peer(kind, seconds)));
    await against("the kernel's JIT", async () => named(kind, kernel(kind)));
    await against("our interpreter", async () => named(kind, await ours(kind, "interpreted", seconds)));
  }
  const setup = new Setup();
  const comparison = { unit: "ns/frame", better: "lower" } as const;
  const installed = async (n: number, name: string): Promise<Sample> => ({
    [name]: (await setup.filtered(n, `${seconds}`))["ns"]!,
  });
  for (const n of INSTALLED) {
    const name = `to a client, ${n} filters installed`;
    const sides = { ours: () => installed(n, name), peer: () => installed(1, name) };
    await ctx.compare({ ...comparison, peerName: "1 filter", ...sides });
  }
  for (const n of MEMBERS) {
    const name = `to a group of ${n}, no filter takes it`;
    const side = (count: number) => async () => ({ [name]: (await members(count, `${seconds}`))["ns"]! });
    await ctx.compare({ ...comparison, peerName: "a group of 1", ours: side(n), peer: side(1) });
  }
}

if (import.meta.main) {
  const [kind, how, seconds] = Bun.argv.slice(2);
  child(kind as Kind, how as How, Number(seconds));
}

export const bench: Bench = {
  name: "filter",
  about: "a frame through a filter; goal: 5 times libpcap's interpreter, and the kernel JIT's speed",
  verify,
  run,
};
