// Offloads of a link, by ioctl(SIOCETHTOOL) (linux/ethtool.h):
//   struct ifreq: char name[16] | pointer to struct ethtool_value: u32 command | u32 value
import { errno, SysError } from "../../ffi/errno.ts";
import { libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";

const SIOCETHTOOL = 0x8946;
const AF_INET = 2;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;

/** ETHTOOL_G* and ETHTOOL_S* */
const commands = {
  /** receive checksum verification */
  rx: [0x14, 0x15],
  /** transmit checksums left to the device: on veth, to nobody. The peer then sees partial checksums. */
  tx: [0x16, 0x17],
  sg: [0x18, 0x19],
  tso: [0x1e, 0x1f],
  gso: [0x23, 0x24],
  gro: [0x2b, 0x2c],
} as const;

export type Offload = keyof typeof commands;

function ethtool(ifname: string, command: number, value: number): number {
  const data = new Uint32Array(new ArrayBuffer(8));
  data.set([command, value]);
  const ifreq = new Uint8Array(new ArrayBuffer(40));
  ifreq.set(new TextEncoder().encode(ifname).subarray(0, 15));
  new DataView(ifreq.buffer).setBigUint64(16, BigInt(ptr(data)), true);
  const fd = libc.socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0);
  if (fd < 0) throw new SysError("socket for ethtool", errno());
  const failed = libc.ioctl(fd, SIOCETHTOOL, ptr(ifreq)) < 0 ? errno() : 0;
  libc.close(fd);
  if (failed) throw new SysError(`ethtool ${ifname} command 0x${command.toString(16)}`, failed);
  return data[1]!;
}

/** Whether the link has it on. In the calling thread's namespace, as setOffload is: see Netns.run. */
export const getOffload = (ifname: string, offload: Offload): boolean =>
  ethtool(ifname, commands[offload][0], 0) !== 0;

export const setOffload = (ifname: string, offload: Offload, on: boolean): void => {
  ethtool(ifname, commands[offload][1], on ? 1 : 0);
};
