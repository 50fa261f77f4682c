// What the main thread tells the control Worker when it starts; src/switch/boot.ts has what net Workers get, and the map
// of the memory that both share.
import type { RegionRef } from "../mem/region.ts";
import type { FramePlace } from "../mem/views.ts";
import type { SwitchCapacity } from "../switch/boot.ts";
import type { Rule } from "../switch/filters/rule.ts";
import type { SteerMapFds } from "../xdp/layout.ts";
import type { GrantSettings } from "./grants.ts";
import type { ServiceMatch } from "./guard.ts";
import type { SwitchSettings } from "./settings.ts";
import type { StaticChannel } from "./static.ts";

/** What the configuration says of clients by memif (its section [memif]). */
export interface MemifSettings {
  readonly secret?: string | undefined;
  readonly clientMegabytes: number;
  /** memifclient.ts */
  readonly clients: readonly string[];
}

/** What clients by memif are served with. */
export interface MemifBoot {
  readonly ifname: string;
  /** the listening socket; -1: none */
  readonly listening: number;
  readonly path: string;
  /** a net Worker each: its ports, and its frame memory, into which clients' memory is mapped */
  readonly ports: readonly RegionRef[];
  readonly places: readonly FramePlace[];
  readonly settings: MemifSettings;
}

/** The control Worker's boot message, without what every Worker gets (thread.ts). */
export interface SwitchBoot {
  readonly table: RegionRef;
  readonly epochs: RegionRef;
  /** the net Workers' own regions, in order, and their epoll fds */
  readonly own: readonly RegionRef[];
  readonly epollFds: readonly number[];
  readonly capacity: SwitchCapacity;
  /** netbase, and our slot of its epochs */
  readonly netbase: RegionRef;
  readonly netbaseEpochs: RegionRef;
  readonly reader: number;
  readonly ifname: string;
  readonly ifindex: number;
  /** the card's namespace */
  readonly netnsFd: number;
  /** the BPF maps, which this Worker alone writes from its start on */
  readonly maps: SteerMapFds;
  /** bound control sockets; on `usnetd`'s, programs of usnetd's ask */
  readonly sockets: readonly { readonly fd: number; readonly path: string; readonly usnetd: boolean }[];
  /** listening sockets of static channels */
  readonly channels: readonly StaticChannel[];
  /** embedded services: their ports are nobody's */
  readonly services: readonly ServiceMatch[];
  readonly settings: SwitchSettings;
  /** with an eventfd by which the main thread says that it wrote one of the lists */
  readonly grants: { readonly settings: GrantSettings; readonly heardFd: number };
  /** clients' filters, how many there may be, and the operator's rules */
  readonly filters: { readonly table: RegionRef; readonly filters: number; readonly rules: readonly Rule[] };
  readonly memif: MemifBoot;
}
