// What the mirror counts; written by its thread, published by the netlink Worker.

/** Totals since the start, by the names that metrics have. */
export class MirrorCounts {
  events = 0;
  overruns = 0;
  /** times that everything was put on the agenda */
  resyncs = 0;
  dumps = 0;
  /** of one interface's routes */
  targeted = 0;
  /** dumps that were not quiet */
  interrupted = 0;
  /** dumps that the kernel refused or broke off */
  failed = 0;
  sweeps = 0;
  /** rows that sweeps removed */
  swept = 0;
  malformed = 0;
  /** requests sent on the event socket that the kernel refused */
  refused = 0;
  /** policy rules that the mirror does not follow */
  rulesBeyond = 0;
  /** IPv6 routes by source, which it does not follow either */
  routesBeyond = 0;
  /** how long it took after the last and the worst loss until everything was right again, in ms */
  convergedMs = 0;
  slowestMs = 0;
}
