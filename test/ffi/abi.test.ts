// ffi/abi.ts against the C headers of this machine.
import { expect, test } from "bun:test";
import { abi, assertAbi } from "../../ffi/abi.ts";
import { expectLayouts } from "./headers.ts";

test("every size and offset is the headers'", () => {
  const headers = ["bpf/bpf.h", "bpf/libbpf.h", "xdp/xsk.h", "linux/ethtool.h", "linux/if.h"];
  expectLayouts(headers.map((name) => `#include <${name}>`).join("\n"), abi);
});

test("this machine passes the check at start", () => {
  expect(assertAbi).not.toThrow();
});
