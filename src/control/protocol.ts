// The control protocol: usnetd's requests and answers, byte for byte, and ours in the same JSON. Pure; control.ts acts.
//
//   request (a datagram)                                                   answer
//   {"RequestUDS":["eth0",1234]}                                           $ and one fd      ER
//   {"RequestNetmapPipe":["eth0",1234]}                                                      ER: there is no netmap here
//   {"AddMatch":{"dst_addr":{"Ipv4":"10.0.0.1"},"dst_port":80,
//                "src_addr":null,"src_port":null,"protocol":6}}            OK                ER: that match exists
//   {"RemoveMatch":{...}}  "DeleteClient"                                  none, ever
//   "QueryUsedPorts"                                                       {"QueryUsedPortsAnswer":{...}}
//   ours: {"RequestMemif":["eth0",1234]}                                   $ and one fd: memif is spoken on it
//   ours: "WhoAmI"  "ListMatches"  {"SetMac":"02:00:00:00:00:05"}          {"Client":{...}}  {"Matches":[...]}  OK
//   "Challenge"  {"Present":{"grant":["JWS",...],"proof":"JWS"}}           {"Challenge":{...}}  {"Granted":{...}}
//   "ListGrants"                                                           {"Grants":[...]}
//   "RequestAcks"; and those about filters: filterwire.ts                  $ and one fd
//
// To what usnetd leaves unanswered, and to refusals that it does not know, the answer is {"Error":{"code":..,"message":..}}.
// On usnetd's own path a program that asked for a match or a channel reads two bytes, or one and a fd: there it is ER.
// Nothing that its clients do not read for is ever answered: RemoveMatch, DeleteClient.
// Ours also takes in a match, beside usnetd's fields: dst_prefix and src_prefix (lengths), and addresses of IPv6.
// Source: usnetd's README and its libusnetd (ClientMessage, WantMsg), serde_json 1.0.64.
import { AF_INET, AF_INET6, formatAddress, parseIPv4, parseIPv6 } from "../wire/address.ts";
import { type FilterRequest, readFilterRequest } from "./filterwire.ts";
import {
  asEnum,
  asList,
  asOption,
  asString,
  asStruct,
  asTuple,
  asUnsigned,
  type Json,
  readJson,
  SerdeError,
} from "./serde.ts";

/** Longest request: on usnetd's own path as much as usnetd reads of one, on ours what a grant or a filter needs. */
export const USNETD_REQUEST_BYTES = 4000;
export const REQUEST_BYTES = 65_535;
/** Longest answer: what usnetd's clients read at most. */
export const ANSWER_BYTES = 1_000_000;

const U8 = 255n;
const U16 = 65535n;
const U64 = 2n ** 64n - 1n;

/** An address as serde has it: a variant and a text that nobody has looked at yet. */
export interface WireAddress {
  readonly variant: "Ipv4" | "Ipv6";
  readonly text: string;
}

/** usnetd's WantMsg, and our fields. */
export interface WireMatch {
  readonly dst: WireAddress;
  readonly dstPort: number | undefined;
  readonly src: WireAddress | undefined;
  readonly srcPort: number | undefined;
  readonly protocol: number;
  readonly dstPrefix: number | undefined;
  readonly srcPrefix: number | undefined;
}

export type Request =
  | { readonly kind: "RequestUDS" | "RequestNetmapPipe" | "RequestMemif"; readonly ifname: string }
  | { readonly kind: "AddMatch" | "RemoveMatch"; readonly match: WireMatch }
  | { readonly kind: "Challenge" }
  | { readonly kind: "ListGrants" }
  | { readonly kind: "DeleteClient" | "QueryUsedPorts" | "WhoAmI" | "ListMatches" | "RequestAcks" }
  | { readonly kind: "SetMac"; readonly mac: string }
  | { readonly kind: "Present"; readonly links: readonly string[]; readonly proof: string }
  | FilterRequest;

/** A request that cannot be taken: why, in a word for programs and a sentence for people. */
export class Refusal extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

/** So many characters of a request are said back. */
const SAID = 64;

const number = (max: bigint) => (json: Json) => Number(asUnsigned(json, max));

function address(json: Json): WireAddress {
  const [variant, content] = asEnum(json);
  if ((variant !== "Ipv4" && variant !== "Ipv6") || content === undefined)
    throw new SerdeError(`unknown variant ${variant.slice(0, SAID)}`);
  return { variant, text: asString(content) };
}

const FIELDS = ["dst_addr", "dst_port", "src_addr", "src_port", "protocol"] as const;
const OURS = ["dst_prefix", "src_prefix"] as const;
const OPTIONAL = new Set<string>(["dst_port", "src_addr", "src_port", ...OURS]);

function match(json: Json): WireMatch {
  const usnetd = asStruct(json, FIELDS, OPTIONAL);
  const [dst, dstPort, src, srcPort, protocol] = usnetd as [Json, Json, Json, Json, Json];
  const none: readonly Json[] = [{ type: "null" }, { type: "null" }];
  const [dstPrefix, srcPrefix] = json.type === "array" ? none : asStruct(json, OURS, OPTIONAL);
  return {
    dst: address(dst),
    dstPort: asOption(dstPort, number(U16)),
    src: asOption(src, address),
    srcPort: asOption(srcPort, number(U16)),
    protocol: number(U8)(protocol),
    dstPrefix: asOption(dstPrefix!, number(128n)),
    srcPrefix: asOption(srcPrefix!, number(128n)),
  };
}

function request(text: string): Request {
  const [kind, content] = asEnum(readJson(text));
  switch (kind) {
    case "RequestUDS":
    case "RequestNetmapPipe":
    case "RequestMemif": {
      const [ifname, pid] = asTuple(content ?? { type: "null" }, 2);
      asUnsigned(pid!, U64); // its own word for who it is, and checked as serde checks it
      return { kind, ifname: asString(ifname!) };
    }
    case "AddMatch":
    case "RemoveMatch":
      return { kind, match: match(content ?? { type: "null" }) };
    case "SetMac":
      return { kind, mac: asString(content ?? { type: "null" }) };
    case "Present": {
      const [grant, proof] = asStruct(content ?? { type: "null" }, ["grant", "proof"], new Set());
      return { kind, links: asList(grant!, asString), proof: asString(proof!) };
    }
    case "InstallFilter":
    case "RemoveFilter":
      return readFilterRequest(kind, content ?? { type: "null" }, match);
    case "DeleteClient":
    case "QueryUsedPorts":
    case "WhoAmI":
    case "ListMatches":
    case "Challenge":
    case "ListGrants":
    case "ListFilters":
    case "RequestAcks":
      if (content !== undefined && content.type !== "null") throw new SerdeError(`${kind} holds nothing`);
      return { kind };
    default:
      throw new SerdeError(`unknown variant ${kind.slice(0, SAID)}`);
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** @throws Refusal for everything that serde refuses */
export function readRequest(bytes: Uint8Array, most = REQUEST_BYTES): Request {
  if (bytes.length > most) throw new Refusal("too_long", `a request has at most ${most} bytes here`);
  let text: string;
  try {
    text = utf8.decode(bytes);
  } catch {
    throw new Refusal("not_utf8", "a request is UTF-8");
  }
  try {
    return request(text);
  } catch (error) {
    if (error instanceof SerdeError) throw new Refusal("malformed", error.message);
    throw error;
  }
}

/** What its sender waits for, of a request that may be malformed: nothing, usnetd's few bytes, or any answer. */
export function expects(bytes: Uint8Array): "nothing" | "usnetd" | "any" {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, 128)).toString("latin1");
  const variant = /^\s*(?:\{\s*)?"(\w+)"/.exec(text)?.[1];
  if (variant === "RemoveMatch" || variant === "DeleteClient") return "nothing";
  return variant === "AddMatch" || variant === "RequestUDS" || variant === "RequestNetmapPipe"
    ? "usnetd"
    : "any";
}

/** An address as the table keeps it. */
export interface Address {
  readonly family: 2 | 10;
  readonly words: Int32Array;
}

/** @throws Refusal */
export function readAddress({ variant, text }: WireAddress): Address {
  if (variant === "Ipv4") {
    const word = parseIPv4(text);
    if (word !== undefined) return { family: AF_INET, words: Int32Array.of(word, 0, 0, 0) };
  } else {
    const words = parseIPv6(text);
    if (words !== undefined) return { family: AF_INET6, words };
  }
  throw new Refusal("bad_address", `"${text.slice(0, 50)}" is no ${variant} address`);
}

export const writeAddress = (family: number, words: Int32Array): Record<string, string> => ({
  [family === AF_INET ? "Ipv4" : "Ipv6"]: formatAddress(family, words),
});

/** One of the triples of QueryUsedPortsAnswer. */
export type UsedPort = readonly [protocol: number, address: Record<string, string>, port: number];

/**
 * {"QueryUsedPortsAnswer":{"listening":[...],"connected":[...]}}, at most ANSWER_BYTES of it: what does not fit is left
 * out, of the connected ones first.
 */
export function usedPorts(listening: Iterable<UsedPort>, connected: Iterable<UsedPort>): string {
  let room = ANSWER_BYTES - '{"QueryUsedPortsAnswer":{"listening":[],"connected":[]}}'.length;
  const list = (ports: Iterable<UsedPort>): string => {
    const texts: string[] = [];
    for (const port of ports) {
      const text = JSON.stringify(port);
      room -= text.length + 1;
      if (room < 0) break;
      texts.push(text);
    }
    return texts.join();
  };
  return `{"QueryUsedPortsAnswer":{"listening":[${list(listening)}],"connected":[${list(connected)}]}}`;
}

/** {"Error":{"code":"kernel_port","message":"..."}} */
export const errorAnswer = ({ code, message }: Refusal): string =>
  JSON.stringify({ Error: { code, message } });
