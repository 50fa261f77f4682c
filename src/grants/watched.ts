// A file that is read again when it has changed, or was wrong. One that is wrong, or gone, leaves what was read before, and says why.
import { readFileSync, statSync } from "node:fs";

export class Watched {
  readonly path: string;
  /** What is wrong with it now; "": nothing. */
  fault = "";
  private readonly read: (text: string, path: string) => void;
  private seen = "";

  /** @param read takes its text; what it throws is the fault */
  constructor(path: string, read: (text: string, path: string) => void) {
    this.path = path;
    this.read = read;
  }

  /** Looks, and reads it if it is another than before. Returns whether something new was taken. */
  look(): boolean {
    let text: string;
    try {
      const { ino, mtimeMs, size } = statSync(this.path);
      const now = `${ino} ${mtimeMs} ${size}`;
      if (now === this.seen && this.fault === "") return false;
      text = readFileSync(this.path, "utf8");
      this.seen = now;
    } catch (error) {
      this.seen = "";
      const { code, message } = error as NodeJS.ErrnoException;
      this.fault = `${this.path}: ${code ?? message}`;
      return false;
    }
    try {
      this.read(text, this.path);
      this.fault = "";
      return true;
    } catch (error) {
      this.fault = `${this.path}: ${(error as Error).message}`;
      return false;
    }
  }
}
