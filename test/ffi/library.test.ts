// What a missing library, or one too old, looks like.
import { expect, setDefaultTimeout, test } from "bun:test";
import { SysError } from "../../ffi/errno.ts";
import { library } from "../../ffi/library.ts";

setDefaultTimeout(60_000); // a loaded machine; nothing here is timed

const symbols = { no_such_function: { args: [], returns: "i32" } } as const;

test("a library that is not installed: nothing at first, then one error that says what to install", () => {
  const missing = library("libnetd-missing.so.1", "libnetd1", symbols);
  for (let time = 0; time < 2; time++) {
    expect(missing).toThrow(SysError);
    expect(missing).toThrow(
      /^open libnetd-missing\.so\.1: ENOENT \(.*install it: apt-get install libnetd1\)$/,
    );
  }
});

test("a symbol that it lacks is named", () => {
  const old = library("libc.so.6", "libc6", symbols);
  expect(old).toThrow(/open libc\.so\.6: ENOENT \(.*no_such_function/);
});

test("opened once", () => {
  const libc = library("libc.so.6", "libc6", { getpid: { args: [], returns: "i32" } });
  expect(libc()).toBe(libc());
  expect(libc().getpid()).toBe(process.pid);
});
