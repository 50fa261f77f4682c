import { expect, setDefaultTimeout, test } from "bun:test";
import { LEVELS } from "../../src/config.ts";
import { Log } from "../../src/log.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

test("each level prints what is as severe or more", () => {
  const printed = LEVELS.map((least) => {
    const lines: string[] = [];
    const log = new Log(least, (line) => lines.push(line));
    for (const level of LEVELS) log.say(level, "so");
    return lines;
  });
  const [error, warn, info] = ["netd: error: so\n", "netd: warn: so\n", "netd: info: so\n"];
  expect(printed as unknown).toEqual([[error], [error, warn], [error, warn, info]]);
});

test("a warning is said when it begins, not while it holds, and again when it is back", () => {
  const lines: string[] = [];
  const log = new Log("warn", (line) => lines.push(line));
  log.warnings(["routes4: 1 did not fit"]);
  log.warnings(["routes4: 2 did not fit", "2 policy rules"]);
  log.warnings(["2 policy rules"]);
  log.warnings(["routes4: 9 did not fit", "2 policy rules"]);
  expect(lines).toEqual([
    "netd: warn: routes4: 1 did not fit\n",
    "netd: warn: 2 policy rules\n",
    "netd: warn: routes4: 9 did not fit\n",
  ]);
});

test("what others chose cannot steer a terminal", () => {
  const lines: string[] = [];
  new Log("info", (line) => lines.push(line)).say("info", "a\x1b[2J\nb");
  expect(lines).toEqual(["netd: info: a?[2J?b\n"]);
});
