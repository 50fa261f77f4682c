// Requests about filters as they come, and what lists of them are. Pure; filters.ts acts.
//
//   {"InstallFilter":{"direction":"Receive","match":null,"program":"2\n40 0 0 12\n6 0 0 65535\n"}}      OK
//   {"RemoveFilter":{"direction":"Transmit"}}                                                          OK
//   "ListFilters"                                                                                      {"Filters":[...]}
//
// A program is `tcpdump -ddd`'s text, its lines also separated by commas, or its numbers: [code, jt, jf, k, code, ...].
// `match` is one of the client's own, with the fields of AddMatch; null or missing: all of the client's packets.
import { decode, encode, type Instruction, type Program, ProgramError, parse } from "../filter/program.ts";
import { RECEIVE, TRANSMIT, type Direction } from "../switch/filters/layout.ts";
import type { WireMatch } from "./protocol.ts";
import { asEnum, asOption, asString, asStruct, asUnsigned, type Json, SerdeError } from "./serde.ts";

const U32 = 2n ** 32n - 1n;

export interface FilterPlace {
  readonly direction: Direction;
  readonly match: WireMatch | undefined;
}

export type FilterRequest =
  | ({ readonly kind: "InstallFilter"; readonly program: Program } & FilterPlace)
  | ({ readonly kind: "RemoveFilter" } & FilterPlace)
  | { readonly kind: "ListFilters" };

function program(json: Json): Program {
  try {
    if (json.type === "string") return parse(asString(json));
    if (json.type !== "array" || json.items.length % 4 !== 0)
      throw new SerdeError("a program is a text, or a list of four numbers an instruction");
    const numbers = json.items.map((item) => Number(asUnsigned(item, U32)));
    const program: Instruction[] = [];
    for (let i = 0; i < numbers.length; i += 4)
      program.push({ code: numbers[i]!, jt: numbers[i + 1]!, jf: numbers[i + 2]!, k: numbers[i + 3]! });
    return decode(encode(program)); // every number fits its field
  } catch (error) {
    if (error instanceof ProgramError) throw new SerdeError(`program: ${error.message}`);
    throw error;
  }
}

function direction(json: Json): Direction {
  const [name, content] = asEnum(json);
  if (content !== undefined || (name !== "Receive" && name !== "Transmit"))
    throw new SerdeError("a direction is Receive or Transmit");
  return name === "Receive" ? RECEIVE : TRANSMIT;
}

/** @param match reads one. @throws SerdeError */
export function readFilterRequest(
  kind: "InstallFilter" | "RemoveFilter",
  json: Json,
  match: (json: Json) => WireMatch,
): FilterRequest {
  const fields = ["direction", "match", ...(kind === "InstallFilter" ? ["program"] : [])];
  const [way, of, what] = asStruct(json, fields, new Set(["match"]));
  const place = { direction: direction(way!), match: asOption(of!, match) };
  if (kind === "RemoveFilter") return { kind, ...place };
  return { kind, ...place, program: program(what!) };
}
