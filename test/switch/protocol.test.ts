// usnetd's protocol, byte by byte: what its clients send is read as serde reads it, and nothing else is. The texts here are
// literal: serde_json wrote the good ones, and refuses the bad ones.
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  ANSWER_BYTES,
  errorAnswer,
  expects,
  readAddress,
  readRequest,
  Refusal,
  REQUEST_BYTES,
  usedPorts,
} from "../../src/control/protocol.ts";
import { readJson, SerdeError } from "../../src/control/serde.ts";

const read = (text: string | Uint8Array) => readRequest(typeof text === "string" ? Buffer.from(text) : text);
const code = (text: string | Uint8Array): string => {
  try {
    read(text);
    return "";
  } catch (error) {
    if (error instanceof Refusal) return error.code;
    throw error;
  }
};

const listener = {
  dst: { variant: "Ipv4", text: "10.0.0.1" },
  dstPort: 8080,
  src: undefined,
  srcPort: undefined,
  protocol: 6,
  dstPrefix: undefined,
  srcPrefix: undefined,
} as const;
const connected = { ...listener, src: { variant: "Ipv4", text: "10.0.0.2" }, srcPort: 443 } as const;
const LISTENER =
  '{"dst_addr":{"Ipv4":"10.0.0.1"},"dst_port":8080,"src_addr":null,"src_port":null,"protocol":6}';

describe("requests as usnetd's clients send them", () => {
  test.each([
    ['{"RequestUDS":["eth0",1234]}', { kind: "RequestUDS", ifname: "eth0" }],
    ['{"RequestNetmapPipe":["eth0",1234]}', { kind: "RequestNetmapPipe", ifname: "eth0" }],
    ['{"RequestUDS":["eth0",18446744073709551615]}', { kind: "RequestUDS", ifname: "eth0" }],
    [`{"AddMatch":${LISTENER}}`, { kind: "AddMatch", match: listener }],
    [`{"RemoveMatch":${LISTENER}}`, { kind: "RemoveMatch", match: listener }],
    [
      '{"AddMatch":{"dst_addr":{"Ipv4":"10.0.0.1"},"dst_port":8080,"src_addr":{"Ipv4":"10.0.0.2"},"src_port":443,"protocol":6}}',
      { kind: "AddMatch", match: connected },
    ],
    [
      '{"AddMatch":{"dst_addr":{"Ipv6":"fd00::1"},"dst_port":null,"src_addr":null,"src_port":null,"protocol":58}}',
      {
        kind: "AddMatch",
        match: { ...listener, dst: { variant: "Ipv6", text: "fd00::1" }, dstPort: undefined, protocol: 58 },
      },
    ],
    ['"DeleteClient"', { kind: "DeleteClient" }],
    ['"QueryUsedPorts"', { kind: "QueryUsedPorts" }],
  ])("%s", (text, request) => expect(read(text)).toEqual(request as never));

  test("addresses are texts that only control reads: what is none is refused later, and never a wildcard", () => {
    for (const [variant, text] of [
      ["Ipv4", "10.0.0.256"],
      ["Ipv4", "fd00::1"],
      ["Ipv4", ""],
      ["Ipv4", "10.0.0.1 "],
      ["Ipv4", "010.0.0.1"],
      ["Ipv6", "10.0.0.1"],
      ["Ipv6", "fe80::1%eth0"],
      ["Ipv6", "::g"],
    ] as const)
      expect(() => readAddress({ variant, text })).toThrow(Refusal);
    expect(readAddress({ variant: "Ipv4", text: "10.0.0.1" })).toEqual({
      family: 2,
      words: Int32Array.of(0x0100000a, 0, 0, 0),
    });
    expect(readAddress({ variant: "Ipv6", text: "fd00::1" }).words[3]).toBe(1 << 24);
  });
});

describe("what serde takes beside", () => {
  test.each([
    ["missing optional fields", '{"AddMatch":{"dst_addr":{"Ipv4":"10.0.0.1"},"dst_port":8080,"protocol":6}}'],
    ["any order", '{"AddMatch":{"protocol":6,"dst_port":8080,"dst_addr":{"Ipv4":"10.0.0.1"}}}'],
    [
      "unknown fields",
      '{"AddMatch":{"x":[1,{"y":null}],"dst_addr":{"Ipv4":"10.0.0.1"},"dst_port":8080,"protocol":6}}',
    ],
    [
      "unknown fields twice, with values that it would not take",
      '{"AddMatch":{"x":1e999,"x":"\\ud800","dst_addr":{"Ipv4":"10.0.0.1"},"dst_port":8080,"protocol":6}}',
    ],
    ["white space around", ` \t\r\n{ "AddMatch" :\n${LISTENER} } \n`],
    ["a struct as a list", '{"AddMatch":[{"Ipv4":"10.0.0.1"},8080,null,null,6]}'],
    [
      "escapes",
      '{"\\u0041ddMatch":{"dst\\u005faddr":{"Ipv4":"10\\u002e0.0.1"},"dst_port":8080,"protocol":6}}',
    ],
  ])("%s", (_, text) => expect(read(text)).toEqual({ kind: "AddMatch", match: listener }));

  test("unit variants that hold null", () => {
    expect(read('{"QueryUsedPorts":null}')).toEqual({ kind: "QueryUsedPorts" });
    expect(read('{"DeleteClient": null}')).toEqual({ kind: "DeleteClient" });
  });
});

describe("what serde refuses", () => {
  test.each([
    "",
    "end",
    "cleanup_kernel",
    "null",
    "[]",
    "{}",
    '"AddMatch"',
    '"RequestUDS"',
    '"Nothing"',
    '"querYUsedPorts"',
    '"QueryUsedPorts" 1',
    '"QueryUsedPorts',
    "'QueryUsedPorts'",
    '\ufeff"QueryUsedPorts"',
    '\u00a0"QueryUsedPorts"',
    '{"QueryUsedPorts":[]}',
    '{"QueryUsedPorts":null,}',
    '{"QueryUsedPorts":null,"QueryUsedPorts":null}',
    '{"RequestUDS":["eth0"]}',
    '{"RequestUDS":["eth0",1234,5]}',
    '{"RequestUDS":["eth0",1234,]}',
    '{"RequestUDS":["eth0",-1]}',
    '{"RequestUDS":["eth0",-0]}',
    '{"RequestUDS":["eth0",1.0]}',
    '{"RequestUDS":["eth0",1e0]}',
    '{"RequestUDS":["eth0",01]}',
    '{"RequestUDS":["eth0",18446744073709551616]}',
    '{"RequestUDS":["eth0","1234"]}',
    '{"RequestUDS":[null,1234]}',
    '{"RequestUDS":{"0":"eth0","1":1234}}',
    '{"RequestUDS":["\\ud800",1]}',
    '{"RequestUDS":["\\udc00\\ud800",1]}',
    '{"RequestUDS":["a\nb",1]}',
    '{"RequestUDS":["\\x41",1]}',
    '{"RequestUDS":["\\u00g0",1]}',
    '{"AddMatch":null}',
    '{"AddMatch":{}}',
    '{"AddMatch":{"dst_addr":{"Ipv4":"10.0.0.1"},"dst_port":8080}}',
    '{"AddMatch":{"dst_port":8080,"protocol":6}}',
    '{"AddMatch":{"dst_addr":null,"dst_port":8080,"protocol":6}}',
    '{"AddMatch":{"dst_addr":"10.0.0.1","dst_port":8080,"protocol":6}}',
    '{"AddMatch":{"dst_addr":{"IPv4":"10.0.0.1"},"dst_port":8080,"protocol":6}}',
    '{"AddMatch":{"dst_addr":{"Ipv4":"10.0.0.1","Ipv6":"::"},"dst_port":8080,"protocol":6}}',
    '{"AddMatch":{"dst_addr":{"Ipv4":null},"dst_port":8080,"protocol":6}}',
    '{"AddMatch":{"dst_addr":{"Ipv4":"10.0.0.1"},"dst_port":65536,"protocol":6}}',
    '{"AddMatch":{"dst_addr":{"Ipv4":"10.0.0.1"},"dst_port":-1,"protocol":6}}',
    '{"AddMatch":{"dst_addr":{"Ipv4":"10.0.0.1"},"dst_port":80.5,"protocol":6}}',
    '{"AddMatch":{"dst_addr":{"Ipv4":"10.0.0.1"},"dst_port":"80","protocol":6}}',
    '{"AddMatch":{"dst_addr":{"Ipv4":"10.0.0.1"},"dst_port":80,"protocol":256}}',
    '{"AddMatch":{"dst_addr":{"Ipv4":"10.0.0.1"},"dst_port":80,"protocol":true}}',
    '{"AddMatch":{"dst_addr":{"Ipv4":"10.0.0.1"},"dst_port":80,"dst_port":80,"protocol":6}}',
    '{"AddMatch":{"dst_addr":{"Ipv4":"10.0.0.1"},"dst_port":80,"dst\\u005fport":80,"protocol":6}}',
    '{"AddMatch":{"x":1.,"dst_addr":{"Ipv4":"10.0.0.1"},"dst_port":80,"protocol":6}}',
    '{"AddMatch":{"x":tru,"dst_addr":{"Ipv4":"10.0.0.1"},"dst_port":80,"protocol":6}}',
    '{"AddMatch":[{"Ipv4":"10.0.0.1"},8080,null,null]}',
    '{"AddMatch":[{"Ipv4":"10.0.0.1"},8080,null,null,6,7]}',
    `{"AddMatch":${LISTENER}`,
    `{"AddMatch":${LISTENER}}}`,
    `{"AddMatch":${LISTENER},"AddMatch":${LISTENER}}`,
    `{AddMatch:${LISTENER}}`,
  ])("%s", (text) => expect(code(text)).toBe("malformed"));

  test("text that is not UTF-8", () => {
    for (const bytes of [
      [0xff],
      [0x22, 0xc0, 0x80, 0x22],
      [0x22, 0xed, 0xa0, 0x80, 0x22],
      [0x22, 0xe2, 0x82],
    ])
      expect(code(Uint8Array.from(bytes))).toBe("not_utf8");
  });

  test("a request that is too long, and none at just as many", () => {
    expect(code('"QueryUsedPorts"'.padEnd(REQUEST_BYTES))).toBe("");
    expect(code('"QueryUsedPorts"'.padEnd(REQUEST_BYTES + 1))).toBe("too_long");
  });

  test("a request that is none is not said back at length", () => {
    for (const text of [`"${"x".repeat(60_000)}"`, `{"AddMatch":{"dst_addr":{"${"y".repeat(60_000)}":1}}}`])
      try {
        read(text);
        expect.unreachable();
      } catch (error) {
        expect((error as Error).message.length).toBeLessThan(200);
      }
  });

  test("any depth that fits into a request, without a stack overflow", () => {
    for (const open of ["[", '{"a":'])
      expect(code(open.repeat(Math.floor(REQUEST_BYTES / open.length)))).toBe("malformed");
    const deep = (n: number) => `{"AddMatch":{"x":${"[".repeat(n)}${"]".repeat(n)},${LISTENER.slice(1)}}`;
    expect(read(deep(1900))).toEqual({ kind: "AddMatch", match: listener });
  });
});

test("what JSON.parse takes is read, and nothing else, but for lone surrogates and duplicates", () => {
  fc.assert(
    fc.property(fc.json(), (text) => {
      readJson(text);
    }),
  );
  const pieces = fc.constantFrom(
    '"',
    "\\",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "1",
    "-",
    ".",
    "e",
    "0",
    "null",
    " ",
    "\n",
  );
  fc.assert(
    fc.property(fc.array(pieces, { maxLength: 12 }), (texts) => {
      const text = texts.join("");
      const isJson = (parse: (text: string) => unknown, refusal: new (...args: never[]) => Error) => {
        try {
          parse(text);
          return true;
        } catch (error) {
          if (error instanceof refusal) return false;
          throw error;
        }
      };
      expect(isJson(readJson, SerdeError)).toBe(isJson(JSON.parse, SyntaxError));
    }),
    { numRuns: 3000 },
  );
});

describe("answers", () => {
  test("used ports, as serde writes them", () => {
    expect(usedPorts([[6, { Ipv4: "10.0.0.1" }, 22]], [])).toBe(
      '{"QueryUsedPortsAnswer":{"listening":[[6,{"Ipv4":"10.0.0.1"},22]],"connected":[]}}',
    );
    expect(usedPorts([], [])).toBe('{"QueryUsedPortsAnswer":{"listening":[],"connected":[]}}');
    expect(
      usedPorts(
        [
          [6, { Ipv4: "10.0.0.1" }, 22],
          [17, { Ipv6: "fd00::1" }, 53],
        ],
        [[6, { Ipv4: "10.0.0.1" }, 40000]],
      ),
    ).toBe(
      '{"QueryUsedPortsAnswer":{"listening":[[6,{"Ipv4":"10.0.0.1"},22],[17,{"Ipv6":"fd00::1"},53]],"connected":[[6,{"Ipv4":"10.0.0.1"},40000]]}}',
    );
  });

  test("weakness: a reply over the datagram limit (7,000 rules) is cut where an entry ends, and still JSON", () => {
    const many = Array.from({ length: 60_000 }, (_, i) => [6, { Ipv4: "10.0.0.1" }, i] as const);
    const text = usedPorts(many, many);
    expect(text.length).toBeLessThanOrEqual(ANSWER_BYTES);
    expect(text.length).toBeGreaterThan(ANSWER_BYTES - 100);
    const { listening, connected } = JSON.parse(text).QueryUsedPortsAnswer;
    expect(listening.length).toBeGreaterThan(20_000);
    expect(connected).toEqual([]);
  });

  test("errors", () => {
    expect(errorAnswer(new Refusal("kernel_port", 'the "kernel"'))).toBe(
      '{"Error":{"code":"kernel_port","message":"the \\"kernel\\""}}',
    );
  });

  test("what the sender waits for is seen in a request however malformed", () => {
    expect(expects(Buffer.from(`{"AddMatch":${LISTENER}`))).toBe("usnetd");
    expect(expects(Buffer.from(' {\n"RequestUDS":'))).toBe("usnetd");
    expect(expects(Buffer.from('{"RequestNetmapPipe":["eth0",1.5]}'))).toBe("usnetd");
    expect(expects(Buffer.from('{"RemoveMatch":1}'))).toBe("nothing");
    expect(expects(Buffer.from('"DeleteClient"x'))).toBe("nothing");
    for (const text of ["", "end", '"QueryUsedPorts', '{"WhoAmI":1}', "\xff"])
      expect(expects(Buffer.from(text))).toBe("any");
  });
});
