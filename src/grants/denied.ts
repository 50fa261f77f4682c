// Why something is not granted: a word for programs and a sentence for people, as control/protocol.ts's refusals are.

/** The words. docs/grants.md has what each means and what to do. */
export type DenialCode =
  | "malformed"
  | "unknown_constraint"
  | "unknown_issuer"
  | "forged"
  | "expired"
  | "not_yet_valid"
  | "wrong_audience"
  | "wrong_holder"
  | "chain_too_long"
  | "broken_chain"
  | "nothing_granted"
  | "not_granted"
  | "revoked"
  | "stale_list"
  | "old_list"
  | "replay"
  | "limit";

export class Denied extends Error {
  readonly code: DenialCode;

  constructor(code: DenialCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** Text that somebody else wrote, as it is quoted in a message. */
export const quoted = (text: string): string =>
  JSON.stringify(text.length > 80 ? `${text.slice(0, 77)}...` : text);
