// Filters by example: libpcap's texts through every form of a program, what each refusal says, the ancillary loads.
import { expect, test } from "bun:test";
import { pcapCompile } from "../../ffi/libpcap.ts";
import { compile } from "../../src/filter/compile.ts";
import { disassemble } from "../../src/filter/disassemble.ts";
import { interpreter } from "../../src/filter/interpret.ts";
import { ancillary, SKF_AD_OFF } from "../../src/filter/opcodes.ts";
import { plainMeta } from "../../src/filter/packet.ts";
import {
  decode,
  encode,
  format,
  type Instruction,
  parse,
  ProgramError,
  programHash,
} from "../../src/filter/program.ts";
import { PART, source } from "../../src/filter/source.ts";
import { verify } from "../../src/filter/verify.ts";
import { udpFrame } from "../../src/wire/frame.ts";
import { parseIPv4 } from "../../src/wire/address.ts";

const TEXTS = [
  "udp and dst port 53",
  "tcp[tcpflags] & tcp-syn != 0 and ip[0]&0xf > 5",
  "ip6 and tcp port 80",
  "vlan 5 and udp",
  "len > 100 and greater 60",
  "ether[12:4] / 3 % 7 = 2",
  "ip[ip[0]&15] * 2 = 4 or -ip[3] = 7 or ip[2]<<2 = 8 or (ip[4] | 3) = 7 or (ip[4] ^ 3) = 7",
  "src net 10.0.0.0/8 or dst portrange 1000-2000",
  "icmp6 or arp",
];

const tcpdump = (flag: string, text: string): string =>
  Bun.spawnSync(["tcpdump", flag, "-y", "EN10MB", text]).stdout.toString();

test.each(TEXTS)("%s: as tcpdump has it, in bytes, numbers and words", (text) => {
  const program = decode(pcapCompile(text));
  expect(verify(program, true)).toBeUndefined();
  expect(format(program)).toBe(tcpdump("-ddd", text));
  expect(disassemble(program)).toBe(tcpdump("-d", text));
  expect(parse(format(program))).toEqual(program);
  expect(decode(encode(program))).toEqual(program);
});

const op = (code: number, k = 0, jt = 0, jf = 0): Instruction => ({ code, jt, jf, k });
const RET_A = op(0x16);

test("what is refused, and where", () => {
  const refused: [Instruction[], number, RegExp][] = [
    [[], -1, /0 instructions: expected 1 to 4096/],
    [[op(0x01, 0), op(0xffff), RET_A], 1, /0xffff is no operation/],
    [[op(0x34, 0), RET_A], 0, /division by zero/],
    [[op(0x94, 0), RET_A], 0, /division by zero/],
    [[op(0x64, 32), RET_A], 0, /shift by 32/],
    [[op(0x02, 16), RET_A], 0, /no scratch word 16/],
    [[op(0x60, 3), RET_A], 0, /scratch word 3 is read before it is written/],
    [[op(0x15, 0, 0, 1), op(0x02, 3), op(0x60, 3), RET_A], 2, /scratch word 3 is read/],
    [[op(0x05, 1), RET_A], 0, /jumps over the program's end/],
    [[op(0x15, 0, 0, 1), RET_A], 0, /jumps over/],
    [[op(0x20, (SKF_AD_OFF + 2) >>> 0), RET_A], 0, /no ancillary data at 2/],
    [[op(0x20, (SKF_AD_OFF + 20) >>> 0), RET_A], 0, /"mark" is known to the kernel alone/],
    [[RET_A, op(0x00)], 1, /does not return/],
  ];
  for (const [program, at, message] of refused) {
    const fault = verify(program, true);
    expect(fault?.at).toBe(at);
    expect(fault?.message).toMatch(message);
  }
});

test("the kernel's own ancillary loads pass the kernel's rules, and not ours", () => {
  for (const { at, here } of ancillary) {
    const program = [op(0x20, (SKF_AD_OFF + at) >>> 0), RET_A];
    expect(verify(program)).toBeUndefined();
    expect(verify(program, true) === undefined).toBe(here);
  }
});

test("ancillary loads give what the frame came with", () => {
  const meta = {
    ...plainMeta(),
    protocol: 0x800,
    ifindex: 70000,
    queue: 3,
    vlanTci: 0x2005,
    vlanTpid: 0x8100,
    vlanPresent: 1,
  };
  const bytes = new Uint8Array(64);
  const wanted = { proto: 0x800, ifidx: 70000, queue: 3, vlan_tci: 0x2005, vlan_tpid: 0x8100, vlan_avail: 1 };
  for (const [name, value] of Object.entries(wanted)) {
    const k = (SKF_AD_OFF + ancillary.find((one) => one.name === name)!.at) >>> 0;
    for (const make of [interpreter, compile])
      expect(make([op(0x20, k), RET_A], bytes, meta, 0)(0, 64)).toBe(value);
  }
  const random = [op(0x20, (SKF_AD_OFF + 56) >>> 0), RET_A];
  for (const make of [interpreter, compile]) {
    const run = make(random, bytes, meta, 0);
    expect(new Set(Array.from({ length: 20 }, () => run(0, 64))).size).toBeGreaterThan(10);
  }
});

const datagram = {
  dstMac: new Uint8Array(6),
  srcMac: new Uint8Array(6),
  src: parseIPv4("10.0.0.2")!,
  dst: parseIPv4("10.0.0.1")!,
  sport: 4000,
  dport: 53,
  payload: new Uint8Array(10),
};

test("a frame anywhere in memory, and loads beyond its end although memory goes on", () => {
  const frame = udpFrame(datagram);
  const memory = new Uint8Array(8192);
  memory.set(frame, 4098);
  const program = decode(pcapCompile("udp and dst port 53"));
  for (const make of [interpreter, compile]) {
    const run = make(program, memory, plainMeta(), 2);
    expect(run(4098, frame.length)).toBe(262144);
    for (let len = 0; len < 38; len++) expect(run(4098, len)).toBe(0);
    expect(run(4098, 38)).toBe(262144);
  }
});

test("a program's hash is that of its bytes", () => {
  // printf '\006\0\0\0\377\377\0\0' | sha256sum
  expect(programHash([op(6, 65535)])).toBe(
    "f3d9699ea30381439ad362890ba698232b1974339eeaad0645b3587d12f37a0e",
  );
});

test("texts and bytes that are no program", () => {
  for (const text of [
    "",
    "x",
    "2\n6 0 0 0\n",
    "1\n6 0 0\n",
    "1\n6 0 0 -1\n",
    "1\n6 256 0 0\n",
    "1\n6 0 0 4294967296\n",
    "1\n65536 0 0 0",
  ])
    expect(() => parse(text)).toThrow(ProgramError);
  expect(parse("1,6 0 0 7")).toEqual([op(6, 7)]);
  expect(() => decode(new Uint8Array(9))).toThrow("9 bytes: not a multiple of 8");
  expect(() => pcapCompile("udp and and")).toThrow(/compile filter "udp and and": EINVAL \(.*syntax error/);
});

test("a program with thousands of jump targets", () => {
  const many = Array.from({ length: 4000 }, () => op(0x15, 1, 0, 1)).flatMap((jump, i) =>
    i % 2 ? [jump] : [op(0x04, 1)],
  );
  const program = [...many.slice(0, 4000), op(0x06, 1), op(0x06, 2)];
  expect(verify(program)).toBeUndefined();
  const bytes = new Uint8Array(4);
  expect(compile(program, bytes, plainMeta(), 0)(0, 4)).toBe(interpreter(program, bytes, plainMeta())(0, 4));
});

test("a long program is several functions, of PART instructions each", () => {
  const text = Array.from({ length: 200 }, (_, i) => `src host 10.0.${i}.1 or udp dst port ${i}`).join(
    " or ",
  );
  const program = decode(pcapCompile(text));
  expect(program.length).toBeGreaterThan(3 * PART);
  expect(source(program, 2)).toHaveLength(Math.ceil(program.length / PART));
  const bytes = new Uint8Array(128);
  const compiled = compile(program, bytes, plainMeta(), 2);
  const interpreted = interpreter(program, bytes, plainMeta());
  let taken = 0;
  for (let i = 0; i < 300; i++) {
    const src = parseIPv4(`10.0.${i % 256}.${i % 3}`)!;
    const frame = udpFrame({ ...datagram, src, dport: i * 3 });
    bytes.set(frame, 2);
    const verdict = compiled(2, frame.length);
    expect(verdict).toBe(interpreted(2, frame.length));
    if (verdict !== 0) taken++;
  }
  expect(taken).toBeGreaterThan(100);
  expect(taken).toBeLessThan(200);
});

test("the source of a program is made of integers and our own words", () => {
  for (const text of TEXTS) {
    const words = source(decode(pcapCompile(text)), 2, 5)
      .join()
      .match(/[a-zA-Z_.]+/g)!;
    const allowed =
      /^(let|if|return|break|switch|case|a|x|h|i|m|b|e|p|s|u|w|len|off|out|meta.netOff|place|const|true|Math.imul)$/;
    for (const word of words) expect(word.replace(/\d+$/, "")).toMatch(allowed);
  }
});
