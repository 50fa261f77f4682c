// Standard output: printed text, whether it may be coloured, and what happens when its reader has gone.
import { SysError } from "../ffi/errno.ts";

const EIO = 5;

// Every failed write is answered where it happens (print); without a listener it would end the process as well.
process.stdout.on("error", () => {});

/** Prints that stdout has not taken yet. */
const pending = new Set<Promise<boolean>>();

/** Resolves when all that was printed is with its reader: before the process ends. */
export const drained = async (): Promise<void> => void (await Promise.allSettled(pending));

/**
 * Writes `text` to stdout and waits until the reader takes it, so that long output needs little memory.
 * Returns false once nobody reads any more (EPIPE): time to end quietly.
 * @throws SysError for anything else, such as a full disk
 */
export function print(text: string | Uint8Array): Promise<boolean> {
  const written = new Promise<boolean>((resolve, reject) => {
    process.stdout.write(text, (error?: NodeJS.ErrnoException | null) => {
      if (!error) resolve(true);
      else if (error.code === "EPIPE") resolve(false);
      else reject(new SysError("write to stdout", Math.abs(error.errno ?? 0) || EIO));
    });
  });
  pending.add(written);
  const done = () => void pending.delete(written);
  written.then(done, done);
  return written;
}

/** Colours only for people at a terminal who did not refuse them (https://no-color.org). */
export const coloured = (): boolean =>
  process.stdout.isTTY === true && !process.env["NO_COLOR"] && process.env["TERM"] !== "dumb";

/** The two emphases there are. Functions that change nothing where colours are off. */
export interface Style {
  strong(text: string): string;
  faint(text: string): string;
  alarm(text: string): string;
}

const wrap = (code: string, on: boolean) => (text: string) =>
  on && text ? `\x1b[${code}m${text}\x1b[0m` : text;

export const style = (colours: boolean): Style => ({
  strong: wrap("1", colours),
  faint: wrap("2", colours),
  alarm: wrap("31", colours),
});

/** Text that others chose (interface names may hold anything) without what a terminal would obey. */
export const printable = (text: string): string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out
  text.replace(/[\x00-\x1f\x7f-\x9f]/g, "?");
