// Messages of the running daemon, on stderr, one line each: "netd: warn: ...". Errors that end it are main.ts's.
import { LEVELS } from "./config.ts";
import { printable } from "./out.ts";

export type Level = (typeof LEVELS)[number];

export class Log {
  private readonly most: number;
  private readonly write: (line: string) => void;
  private standing = new Set<string>();

  /** @param level the least severe that is printed */
  constructor(level: Level, write = (line: string): void => void process.stderr.write(line)) {
    this.most = LEVELS.indexOf(level);
    this.write = write;
  }

  say(level: Level, message: string): void {
    if (LEVELS.indexOf(level) <= this.most) this.write(`netd: ${level}: ${printable(message)}\n`);
  }

  /**
   * Takes all warnings that hold now, and says those that are new: once, however long they hold, and again if they come
   * back. A warning whose numbers alone have changed is the same.
   */
  warnings(now: readonly string[]): void {
    const before = this.standing;
    this.standing = new Set();
    for (const warning of now) {
      const key = warning.replace(/\d+/g, "#");
      if (!before.has(key)) this.say("warn", warning);
      this.standing.add(key);
    }
  }
}
