import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  AF_INET6,
  formatAddress,
  formatIPv6,
  formatLladdr,
  parseAddress,
  parseIPv4,
  parseIPv6,
  parseLladdr,
} from "../../src/wire/address.ts";

test("words are memory words", () => {
  expect(parseIPv4("10.0.0.1")).toBe(0x0100000a);
  expect([...parseIPv6("fe80::1")!]).toEqual([0x000080fe, 0, 0, 0x01000000]);
});

test.each([
  ["::", "::"],
  ["::1", "::1"],
  ["1::", "1::"],
  ["2001:DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
  ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
  ["::ffff:10.0.0.1", "::ffff:10.0.0.1"],
  ["0:0:0:1::", "0:0:0:1::"],
])("IPv6 %s prints as %s", (text, want) => {
  expect(formatIPv6(parseIPv6(text)!)).toBe(want);
});

test("format and parse are inverse for any words", () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.constant(0), fc.integer()), { minLength: 4, maxLength: 4 }), (words) => {
      expect([...parseAddress(formatAddress(AF_INET6, words))!.words]).toEqual(words);
    }),
  );
});

test.each(["", "10.0.0", "10.0.0.256", "fe80::1%eth0", "1:2:3", "g::", "02:00"])(
  "%p is no address",
  (text) => {
    expect(parseAddress(text)).toBeUndefined();
  },
);

test("link-layer addresses of any length", () => {
  expect(formatLladdr(parseLladdr("02:00:00:00:00:fF")!)).toBe("02:00:00:00:00:ff");
  expect(parseLladdr("02:0:00")).toBeUndefined();
});
