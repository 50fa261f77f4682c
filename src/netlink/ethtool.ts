// ethtool over generic netlink: rings, channels, features and link state (linux/ethtool_netlink.h;
// linux/Documentation/networking/ethtool-netlink.rst).
import type { Attributes } from "./attribute.ts";
import type { Options } from "./collection.ts";
import type { Command, Genl } from "./genl.ts";
import {
  ETHTOOL_A_BITSET,
  ETHTOOL_A_BITSET_BIT,
  ETHTOOL_A_BITSET_BITS,
  ETHTOOL_A_CHANNELS,
  ETHTOOL_A_FEATURES,
  ETHTOOL_A_HEADER,
  ETHTOOL_A_LINKSTATE,
  ETHTOOL_A_RINGS,
} from "./genlattribute.ts";
import {
  all,
  as,
  bool,
  flag,
  link,
  list,
  nested,
  Schema,
  text,
  u8,
  u32,
  type Unnamed,
} from "./object/codec.ts";

const header = nested(
  new Schema(ETHTOOL_A_HEADER as Attributes, {
    DEV_INDEX: as("index", link),
    DEV_NAME: as("name", text),
    FLAGS: u32,
  }),
);
const bitset = nested(
  new Schema(ETHTOOL_A_BITSET as Attributes, {
    NOMASK: flag,
    SIZE: u32,
    BITS: list(
      nested(new Schema(ETHTOOL_A_BITSET_BIT as Attributes, { INDEX: u32, NAME: text, VALUE: flag })),
      ETHTOOL_A_BITSET_BITS.BIT,
    ),
  }),
);

interface Header {
  header: { index: number; name: string };
}
interface Bitset {
  nomask?: true;
  bits?: { name: string; value?: true }[];
}

/** Sizes of a card's rings, in descriptors; `*Max` is what it can. */
export interface Rings extends Header, Unnamed {
  rxMax?: number;
  rxMiniMax?: number;
  rxJumboMax?: number;
  txMax?: number;
  rx?: number;
  rxMini?: number;
  rxJumbo?: number;
  tx?: number;
  rxBufLen?: number;
  /** 0 unknown, 1 off, 2 on */
  tcpDataSplit?: number;
  cqeSize?: number;
  txPush?: boolean;
}
export type RingsSpec = Pick<
  Rings,
  "rx" | "rxMini" | "rxJumbo" | "tx" | "rxBufLen" | "tcpDataSplit" | "cqeSize" | "txPush"
>;

/** Numbers of a card's queues. */
export interface Channels extends Header, Unnamed {
  rxMax?: number;
  txMax?: number;
  otherMax?: number;
  combinedMax?: number;
  rxCount?: number;
  txCount?: number;
  otherCount?: number;
  combinedCount?: number;
}
export type ChannelsSpec = Pick<Channels, "rxCount" | "txCount" | "otherCount" | "combinedCount">;

export interface LinkState extends Header, Unnamed {
  /** whether it has its carrier */
  link?: boolean;
  sqi?: number;
  sqiMax?: number;
  extState?: number;
  extSubstate?: number;
}

/** An offload, such as "tx-checksum-ip-generic". */
export interface Feature {
  active: boolean;
  /** asked for, though perhaps not possible now */
  wanted: boolean;
  /** whether it can be changed */
  changeable: boolean;
}

const command = (name: string, number: number, attributes: Attributes, schema: Schema): Command => ({
  family: "ethtool",
  command: number,
  name: `ETHTOOL_MSG_${name}`,
  attributes,
  schema,
});

const ringSchema = new Schema(ETHTOOL_A_RINGS as Attributes, {
  HEADER: header,
  ...all(u32, "RX_MAX RX_MINI_MAX RX_JUMBO_MAX TX_MAX RX RX_MINI RX_JUMBO TX RX_BUF_LEN CQE_SIZE"),
  TCP_DATA_SPLIT: u8,
  TX_PUSH: bool,
});
const channelSchema = new Schema(ETHTOOL_A_CHANNELS as Attributes, {
  HEADER: header,
  ...all(u32, "RX_MAX TX_MAX OTHER_MAX COMBINED_MAX RX_COUNT TX_COUNT OTHER_COUNT COMBINED_COUNT"),
});
const stateSchema = new Schema(ETHTOOL_A_LINKSTATE as Attributes, {
  HEADER: header,
  LINK: bool,
  ...all(u32, "SQI SQI_MAX"),
  ...all(u8, "EXT_STATE EXT_SUBSTATE"),
});
const featureSchema = new Schema(ETHTOOL_A_FEATURES as Attributes, {
  HEADER: header,
  ...all(bitset, "HW WANTED ACTIVE NOCHANGE"),
});
/** For the fuzzer. */
export const ethtoolSchemas: readonly Schema[] = [ringSchema, channelSchema, stateSchema, featureSchema];

const rings = ETHTOOL_A_RINGS as Attributes;
const channels = ETHTOOL_A_CHANNELS as Attributes;
const features = ETHTOOL_A_FEATURES as Attributes;
const LINKSTATE_GET = command("LINKSTATE_GET", 6, ETHTOOL_A_LINKSTATE as Attributes, stateSchema);
const FEATURES_GET = command("FEATURES_GET", 11, features, featureSchema);
const FEATURES_SET = command("FEATURES_SET", 12, features, featureSchema);
const RINGS_GET = command("RINGS_GET", 15, rings, ringSchema);
const RINGS_SET = command("RINGS_SET", 16, rings, ringSchema);
const CHANNELS_GET = command("CHANNELS_GET", 17, channels, channelSchema);
const CHANNELS_SET = command("CHANNELS_SET", 18, channels, channelSchema);

/** Links are named by index or name. What a card does not support is EOPNOTSUPP. */
export class Ethtool {
  private readonly genl: Genl;

  constructor(genl: Genl) {
    this.genl = genl;
  }

  /** @throws NetlinkError */
  async rings(link: number | string, options?: Options): Promise<Rings> {
    return (await this.genl.call(RINGS_GET, about(link), options)) as Rings;
  }

  async setRings(link: number | string, spec: RingsSpec, options?: Options): Promise<void> {
    await this.genl.call(RINGS_SET, { ...about(link), ...spec }, options);
  }

  async channels(link: number | string, options?: Options): Promise<Channels> {
    return (await this.genl.call(CHANNELS_GET, about(link), options)) as Channels;
  }

  async setChannels(link: number | string, spec: ChannelsSpec, options?: Options): Promise<void> {
    await this.genl.call(CHANNELS_SET, { ...about(link), ...spec }, options);
  }

  async linkState(link: number | string, options?: Options): Promise<LinkState> {
    return (await this.genl.call(LINKSTATE_GET, about(link), options)) as LinkState;
  }

  /** All that the kernel knows, by name. */
  async features(link: number | string, options?: Options): Promise<Map<string, Feature>> {
    type Answer = { [set in "hw" | "wanted" | "active" | "nochange"]?: Bitset };
    const answer = (await this.genl.call(FEATURES_GET, about(link), options)) as Answer;
    const on = (set: Bitset | undefined): Set<string> =>
      new Set(set?.bits?.filter((bit) => set.nomask || bit.value).map((bit) => bit.name));
    const [hw, wanted, active, fixed] = [answer.hw, answer.wanted, answer.active, answer.nochange].map(on);
    const names = new Set([...(answer.hw?.bits ?? []).map((bit) => bit.name), ...active!, ...fixed!]);
    return new Map(
      Array.from(names, (name) => [
        name,
        {
          active: active!.has(name),
          wanted: wanted!.has(name),
          changeable: hw!.has(name) && !fixed!.has(name),
        },
      ]),
    );
  }

  /** Switches features on or off; what could not be done shows in `features`. @throws NetlinkError for an unknown name */
  async setFeatures(
    link: number | string,
    spec: Readonly<Record<string, boolean>>,
    options?: Options,
  ): Promise<void> {
    const bits = Object.entries(spec).map(([name, on]) => ({ name, ...(on && { value: true }) }));
    await this.genl.call(FEATURES_SET, { ...about(link), wanted: { bits } }, options);
  }
}

const about = (link: number | string): { header: object } => ({
  header: typeof link === "number" ? { index: link } : { name: link },
});
