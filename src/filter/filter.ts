// netd/filter: classic BPF in TypeScript. A program is data (`Program`), checked as the kernel checks it before anything runs.
//
//   parse (tcpdump -ddd) | decode (struct sock_filter[])  ->  Program  ->  verify  ->  compile or interpreter: a Filter
//                                                                      ->  disassemble, format, encode, source
export type { Alignment } from "./analyse.ts";
export { compile } from "./compile.ts";
export { disassemble } from "./disassemble.ts";
export { type Filter, interpreter } from "./interpret.ts";
export { type Meta, plainMeta } from "./packet.ts";
export { decode, encode, format, type Instruction, parse, type Program, ProgramError } from "./program.ts";
export { source } from "./source.ts";
export { type Fault, verify } from "./verify.ts";
