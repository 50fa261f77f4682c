// What the main thread tells the Workers of the switch when they start. Numbers, strings and RegionRefs only: it crosses
// by structured clone. Shared memory of the switch, who writes it and who reads it:
//
//   netd-switch          the table (table/): clients, matches, groups, answers to claims    control Worker | all
//   netd-switch-epochs   a slot a net Worker (mem/epoch.ts)                                   net Workers    | control
//   netd-filters         clients' filters (filters/layout.ts)                                 control Worker | all
//   netd-filters-N       what they let pass, flows for rules (filters/own.ts)                 net Worker N   | all
//   netd-memif-N         clients by memif (link/memif/port.ts)                                control Worker | net Worker N
//   netd-memif-locks     of rings that several net Workers write to (ports.ts)                net Workers    | net Workers
//   netd-fragments-N     where fragments go (fragment.ts)                                     net Worker N   | net Workers
//   netd-switch-N        touch ticks, counters per client, claim ring (own.ts)                net Worker N   | control, main
import type { RegionRef } from "../mem/region.ts";
import type { FlowSeconds } from "./filters/judge.ts";
import type { Rule } from "./filters/rule.ts";

/** How many of each fit; the same for whoever maps one of the regions. */
export interface SwitchCapacity {
  readonly clients: number;
  readonly matches: number;
}

/** What a net Worker has of filters: regions, how many there may be, and the operator's rules. */
export interface NetFilters {
  readonly table: RegionRef;
  /** every net Worker's own, in their order */
  readonly own: readonly RegionRef[];
  readonly filters: number;
  readonly rules: readonly Rule[];
  readonly flowSeconds: FlowSeconds;
}

/** NetBoot.switch: what a net Worker has of the switch. */
export interface NetSwitch {
  readonly table: RegionRef;
  readonly epochs: RegionRef;
  readonly ports: RegionRef;
  readonly locks: RegionRef;
  /** this Worker's own region, which it alone writes */
  readonly own: RegionRef;
  /** every net Worker's, in their order */
  readonly fragments: readonly RegionRef[];
  readonly capacity: SwitchCapacity;
  /** whether netbase and table have room in the frame memory (mem/views.ts) */
  readonly isMapped: boolean;
  readonly filters: NetFilters;
  /** this Worker is `worker` of `workers`: home of the clients in the slots that leave `worker` when divided by `workers` */
  readonly worker: number;
  readonly workers: number;
  /** epoll fd with the channels of the clients whose home this is; event data is the client's slot. Level-triggered EPOLLIN */
  readonly epollFd: number;
  /** eventfd of the control Worker: written after a push to the claim ring */
  readonly controlWakeFd: number;
  /** the tap's fd, non-blocking; frames for and from this host's kernel. One queue: any Worker writes, Worker 0 reads */
  readonly tapFd: number;
  readonly tapIfindex: number;
  /** addresses under which a client and this host's kernel see each other where they share one: text */
  readonly alias4: string;
  readonly alias6: string;
  /** destination MACs that are ours beside the card's (usnetd's ADD_MACS): six bytes each, text */
  readonly macs: readonly string[];
  /** frames a second that a client may send; 0: any number */
  readonly packetsPerSecond: number;
  /** the kernel does not get what it has not asked for */
  readonly firewall: boolean;
}
