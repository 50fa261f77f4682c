// The operator's rules, as the configuration has them: a packet between clients and the rest of the world goes through them
// in order, and the first that is about it decides; none: it passes.
//
//   [uid NUMBER] allow|deny in|out [established] [EXPRESSION]
//
//   allow in established
//   allow in tcp dst port 8080
//   deny in
//   uid 1000 deny out tcp port 25
//
// `in` is to a client, `out` from one. `established`: of a flow that the other direction has had a packet of (flows.ts, and
// claims). EXPRESSION is libpcap's language, or `bytecode` and what `tcpdump -ddd` prints, its lines separated by commas.
// Rules of a uid are a layer of their own, for the clients of that user: a packet passes if both layers let it.
import { type Program, ProgramError, parse } from "../../filter/program.ts";
import { verify } from "../../filter/verify.ts";

export interface RuleText {
  readonly text: string;
  /** -1: everybody's */
  readonly uid: number;
  readonly deny: boolean;
  readonly isOut: boolean;
  readonly established: boolean;
  /** libpcap's language; "" matches everything. */
  readonly expression: string;
  readonly bytecode: Program | undefined;
}

/** A rule that can be run; crosses to Workers. */
export interface Rule extends Omit<RuleText, "expression" | "bytecode"> {
  readonly program: Program | undefined;
}

const RULE = /^\s*(?:uid\s+(\d{1,10})\s+)?(allow|deny)\s+(in|out)\b\s*(established\b)?\s*(.*?)\s*$/s;

/** Why a text is no rule, or the rule. */
export function readRule(text: string): RuleText | string {
  const found = RULE.exec(text);
  if (!found) return "expected [uid NUMBER] allow|deny in|out [established] [EXPRESSION]";
  const [, uid, action, direction, established, rest = ""] = found;
  const rule = {
    text: text.trim(),
    uid: uid === undefined ? -1 : Number(uid),
    deny: action === "deny",
    isOut: direction === "out",
    established: established !== undefined,
  };
  if (!/^bytecode\b/.test(rest)) return { ...rule, expression: rest, bytecode: undefined };
  try {
    const bytecode = parse(rest.slice("bytecode".length));
    const fault = verify(bytecode, true);
    if (fault) return `bytecode: ${fault.at < 0 ? "" : `instruction ${fault.at}: `}${fault.message}`;
    return { ...rule, expression: "", bytecode };
  } catch (error) {
    if (error instanceof ProgramError) return `bytecode: ${error.message}`;
    throw error;
  }
}

/** Whether any rule is about packets of this user's clients. */
export const concerns = (
  rules: readonly RuleText[] | readonly Rule[],
  uid: number,
  isOut: boolean,
): boolean => rules.some((rule) => rule.isOut === isOut && (rule.uid === -1 || rule.uid === uid));
