// What became of a frame, as a packet's comment says it. Small numbers are drop reasons (src/switch/drops.ts, or another
// list of names that the main thread is given), the others are these.

/** Where a frame came from. */
export const Origin = {
  /** the card: received from the wire */
  card: 0,
  /** a client's channel */
  client: 1,
  /** this host's kernel, by the tap */
  host: 2,
  /** netd itself: an answer of a service, an ARP reply, an ICMP error */
  self: 3,
} as const;

const FIRST = 1 << 12;

/** What was done with it, if it was not dropped. */
export const Verdict = {
  /** to a client's channel */
  toClient: FIRST,
  /** to every client of its group */
  toGroup: FIRST + 1,
  /** out of the card */
  sent: FIRST + 2,
  /** to this host's kernel */
  toKernel: FIRST + 3,
  /** an embedded service or netd itself has answered it */
  answered: FIRST + 4,
  /** kept until a claim is answered, a neighbour is known, or a first fragment comes */
  held: FIRST + 5,
} as const;

const names = ["to_client", "to_group", "sent", "to_kernel", "answered", "held"];

/** How clients are named: slot -> "client=3 pid=77 uid=0". */
export type ClientText = (slot: number) => string;

/**
 * "verdict=to_client client=3 pid=77 uid=0", "verdict=dropped reason=spoof_source from client=3 pid=77 uid=0".
 * @param reasons names of drop reasons by number
 */
export function comment(
  verdict: number,
  to: number,
  from: number,
  reasons: readonly string[],
  client: ClientText,
): string {
  const known = names[verdict - FIRST];
  const what = known ?? `dropped reason=${reasons[verdict] ?? verdict}`;
  return `verdict=${what}${to < 0 ? "" : ` ${client(to)}`}${from < 0 ? "" : ` from ${client(from)}`}`;
}
