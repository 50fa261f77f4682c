// netdev-genl: what a card's driver can do for XDP and AF_XDP, and its queues (linux/netdev.h, 6.3 and later;
// linux/Documentation/netlink/specs/netdev.yaml).
import type { Attributes } from "./attribute.ts";
import type { Options } from "./collection.ts";
import type { Command, Genl } from "./genl.ts";
import { NETDEV_A_DEV, NETDEV_A_QUEUE } from "./genlattribute.ts";
import { as, type Codec, link, named, raw, Schema, u32, type Unnamed } from "./object/codec.ts";
import { Bits, type HexBit } from "./object/kind.ts";

const XDP = ["basic", "redirect", "ndoXmit", "xskZerocopy", "hwOffload", "rxSg", "ndoXmitSg"] as const;
/** NETDEV_XDP_ACT_*: "xskZerocopy" is zero-copy AF_XDP, "rxSg" frames of several buffers. */
export type XdpFeature = (typeof XDP)[number];
const METADATA = ["timestamp", "hash", "vlanTag"] as const;
export type XdpMetadata = (typeof METADATA)[number];
const XSK = ["txTimestamp", "txChecksum", "txLaunchTimeFifo"] as const;
export type XskFeature = (typeof XSK)[number];

export interface NetDevice extends Unnamed {
  /** index of the link */
  link: number;
  xdpFeatures: readonly (XdpFeature | HexBit)[];
  /** most buffers of one frame in zero-copy mode */
  xdpZcMaxSegs?: number;
  xdpRxMetadataFeatures?: readonly (XdpMetadata | HexBit)[];
  xskFeatures?: readonly (XskFeature | HexBit)[];
}

export interface NetQueue extends Unnamed {
  id: number;
  link: number;
  type: "rx" | "tx" | number;
  napiId?: number;
  /** there if an AF_XDP socket has it */
  xsk?: Uint8Array;
}

/** 64 bits of which the lower half is all that has names. */
const bits = <Name extends string>(names: readonly Name[]): Codec<readonly (Name | HexBit)[]> => {
  const set = new Bits<Name>(names);
  return {
    read: (words, _bytes, off, len) =>
      len === 8 && words[(off >> 2) + 1] === 0 ? set.read(words[off >> 2]!) : undefined,
    write: (m, type, value) => m.raw(type, new Uint8Array(Int32Array.of(set.write(value), 0).buffer)),
  };
};

const device = new Schema(NETDEV_A_DEV as Attributes, {
  IFINDEX: as("link", link),
  XDP_FEATURES: bits(XDP),
  XDP_ZC_MAX_SEGS: u32,
  XDP_RX_METADATA_FEATURES: bits(METADATA),
  XSK_FEATURES: bits(XSK),
});
const queue = new Schema(NETDEV_A_QUEUE as Attributes, {
  ID: u32,
  IFINDEX: as("link", link),
  TYPE: named(u32, ["rx", "tx"]),
  NAPI_ID: u32,
  XSK: raw,
});
/** For the fuzzer. */
export const netdevSchemas: readonly Schema[] = [device, queue];

const command = (name: string, number: number, attributes: Attributes, schema: Schema): Command => ({
  family: "netdev",
  command: number,
  name: `NETDEV_CMD_${name}`,
  attributes,
  schema,
});
const DEV_GET = command("DEV_GET", 1, NETDEV_A_DEV as Attributes, device);
const QUEUE_GET = command("QUEUE_GET", 10, NETDEV_A_QUEUE as Attributes, queue);

export class Netdev {
  private readonly genl: Genl;

  constructor(genl: Genl) {
    this.genl = genl;
  }

  /** All links of the namespace. */
  async devices(options?: Options): Promise<NetDevice[]> {
    return (await this.genl.dump(DEV_GET, {}, options)) as NetDevice[];
  }

  /** @throws NetlinkError (ENODEV) */
  async device(link: number | string, options?: Options): Promise<NetDevice> {
    return (await this.genl.call(DEV_GET, { link }, options)) as NetDevice;
  }

  /** The queues of a link that is up. */
  async queues(link: number | string, options?: Options): Promise<NetQueue[]> {
    return (await this.genl.dump(QUEUE_GET, { link }, options)) as NetQueue[];
  }
}
