// `netd filter compile TEXT` and `netd filter check [FILE]`: packet filters from libpcap's language, or from what
// `tcpdump -ddd` prints, in the form that is asked for. libpcap reads hostile text in this process, never in the daemon.
import { readFileSync } from "node:fs";
import { SysError } from "../ffi/errno.ts";
import { pcapCompile } from "../ffi/libpcap.ts";
import { disassemble } from "./filter/disassemble.ts";
import { decode, type Form, format, type Program, ProgramError, parse } from "./filter/program.ts";
import { source } from "./filter/source.ts";
import { verify } from "./filter/verify.ts";
import { print } from "./out.ts";

const EINVAL = 22;
/** As the net loop has frames: so that IP lies in whole words. */
const FRAME_ALIGN = 2;

const forms: Record<Form, (program: Program) => string> = {
  words: disassemble, // tcpdump -d
  numbers: format, // tcpdump -ddd
  json: (program) => `${JSON.stringify(program)}\n`,
  js: (program) => `${source(program, FRAME_ALIGN).join("\n\n")}\n`,
};

/** @throws SysError with libpcap's words */
export async function compileText(text: string, form: Form): Promise<void> {
  await print(forms[form](decode(pcapCompile(text))));
}

/** The same for texts on stdin, one a line: of each a line of numbers, separated by commas. @throws SysError at the first fault */
export async function compileLines(): Promise<void> {
  for (const text of (await Bun.stdin.text()).split("\n"))
    if (text !== "")
      await print(
        `${format(decode(pcapCompile(text)))
          .trimEnd()
          .replaceAll("\n", ",")}\n`,
      );
}

/** @param file "-" is stdin. @throws SysError that says what is wrong with the program, and where */
export async function checkFile(file: string, form: Form): Promise<void> {
  const name = file === "-" ? "stdin" : file;
  const op = `check filter of ${name}`;
  let text: string;
  try {
    text = file === "-" ? await Bun.stdin.text() : readFileSync(file, "utf8");
  } catch (error) {
    throw new SysError(op, Math.abs((error as NodeJS.ErrnoException).errno ?? 0));
  }
  let program: Program;
  try {
    program = parse(text);
  } catch (error) {
    if (error instanceof ProgramError) throw new SysError(op, EINVAL, error.message);
    throw error;
  }
  const fault = verify(program, true);
  if (fault)
    throw new SysError(op, EINVAL, `${fault.at < 0 ? "" : `instruction ${fault.at}: `}${fault.message}`);
  await print(forms[form](program));
}
