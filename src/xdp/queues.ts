// How many queues a card receives on, and whether it strips VLAN tags: ethtool's ioctls, in the calling thread's network
// namespace. Source: linux/ethtool.h, linux/sockios.h.
import { readdirSync } from "node:fs";
import { abi } from "../../ffi/abi.ts";
import { errno, SysError } from "../../ffi/errno.ts";
import { cstring, libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";

const AF_INET = 2;
const SOCK_DGRAM_CLOEXEC = 0x80002;
const SIOCETHTOOL = 0x8946;
const ETHTOOL_GFLAGS = 0x25;
const ETHTOOL_SFLAGS = 0x26;
const ETHTOOL_GCHANNELS = 0x3c;
const ETH_FLAG_RXVLAN = 1 << 8;
const EOPNOTSUPP = 95;

/**
 * The number of receive queues in use, at least 1. Read it after attaching: some drivers change it then.
 * A driver without channels (EOPNOTSUPP) is asked for by sysfs, which shows the namespace that mounted it.
 */
export function receiveQueues(ifname: string): number {
  const channels = new Uint32Array(new ArrayBuffer(abi.ethtool_channels.sizeof));
  channels[0] = ETHTOOL_GCHANNELS;
  const error = ethtool(ifname, channels);
  if (error === 0) {
    const { rx_count, combined_count } = abi.ethtool_channels;
    return Math.max(1, channels[rx_count / 4]! + channels[combined_count / 4]!);
  }
  if (error !== EOPNOTSUPP) throw new SysError(`read the channels of ${ifname}`, error);
  try {
    const names = readdirSync(`/sys/class/net/${ifname}/queues`);
    return Math.max(1, names.filter((name) => name.startsWith("rx-")).length);
  } catch {
    return 1;
  }
}

/**
 * Turns the stripping of VLAN tags on receive on or off, and returns what it was. A stripped tag is invisible to XDP, so that
 * a frame of VLAN 5 looks untagged: off while steer is attached, and put back afterwards. False, and nothing done, where
 * the card cannot.
 */
export function setVlanStripping(ifname: string, on: boolean): boolean {
  const value = new Uint32Array(new ArrayBuffer(abi.ethtool_value.sizeof));
  value[0] = ETHTOOL_GFLAGS;
  const read = ethtool(ifname, value);
  if (read === EOPNOTSUPP) return false;
  if (read !== 0) throw new SysError(`read the offloads of ${ifname}`, read);
  const flags = value[1]!;
  const was = (flags & ETH_FLAG_RXVLAN) !== 0;
  if (was === on) return was;
  value[0] = ETHTOOL_SFLAGS;
  value[1] = on ? flags | ETH_FLAG_RXVLAN : flags & ~ETH_FLAG_RXVLAN;
  const written = ethtool(ifname, value);
  if (written !== 0) throw new SysError(`turn rxvlan ${on ? "on" : "off"} on ${ifname}`, written);
  return was;
}

/** Turns stripping on again when all is over: under the name that the card has by now, and not if it is gone. */
export function restoreVlanStripping(ifindex: number): void {
  const ifname = interfaceName(ifindex);
  if (ifname) setVlanStripping(ifname, true);
}

/** The name of an interface of the calling thread's namespace; "" if there is none. */
export function interfaceName(ifindex: number): string {
  const name = new Uint8Array(new ArrayBuffer(16));
  if (!libc.if_indextoname(ifindex, ptr(name))) return "";
  return Buffer.from(name).toString("latin1").replace(/\0.*$/s, "");
}

/** 0, or an errno. */
function ethtool(ifname: string, command: Uint32Array<ArrayBuffer>): number {
  const request = new DataView(new ArrayBuffer(abi.ifreq.sizeof));
  new Uint8Array(request.buffer).set(cstring(ifname).subarray(0, abi.ifreq.ifr_data - 1));
  request.setBigUint64(abi.ifreq.ifr_data, BigInt(ptr(command)), true);
  const fd = libc.socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0);
  if (fd < 0) return errno();
  const error = libc.ioctl(fd, SIOCETHTOOL, ptr(request)) < 0 ? errno() : 0;
  libc.close(fd);
  return error;
}
