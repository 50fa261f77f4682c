// The tap device between the switch and this host's kernel: what the kernel sends to a client is read from it, what netd
// writes is received by the kernel, on the tap (sent to its MAC) or as if on the card (sent to the card's: bpf/tc.h).
// Not persistent: it goes with its last fd, however the process ends. One frame a read or write, without any header, up
// to 64 KiB; the kernel completes checksums and cuts up large segments before they come out.
// Sources: linux/if_tun.h, linux/sockios.h, Documentation/networking/ip-sysctl.rst.
import { readFileSync, writeFileSync } from "node:fs";
import { abi } from "../../ffi/abi.ts";
import { errno, SysError } from "../../ffi/errno.ts";
import { cstring, libc } from "../../ffi/libc.ts";
import { ptr } from "../../ffi/memory.ts";

const O_RDWR = 2;
const O_NONBLOCK = 0o4000;
const O_CLOEXEC = 0o2000000;
const AF_INET = 2;
const SOCK_DGRAM_CLOEXEC = 0x80002;
const TUNSETIFF = 0x400454ca;
const SIOCGIFFLAGS = 0x8913;
const SIOCSIFFLAGS = 0x8914;
const SIOCSIFADDR = 0x8916;
const SIOCSIFNETMASK = 0x891c;
const SIOCSIFMTU = 0x8922;
const SIOCGIFHWADDR = 0x8927;
const SIOCGIFINDEX = 0x8933;
const SIOCSIFTXQLEN = 0x8943;
const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;
const IFF_UP = 0x1;
const IFF_NOARP = 0x80;
const QUEUE_FRAMES = 2048;
const { ifr_data } = abi.ifreq;

export interface TapOptions {
  /** of the card; the tap's is the same */
  readonly ifname: string;
  readonly mtu: number;
  /** An IPv4 address, memory word: the tap needs one where reverse path filtering is on for all devices. */
  readonly address: number;
}

export class Tap {
  /** Non-blocking. */
  readonly fd: number;
  readonly name: string;
  readonly ifindex: number;
  readonly mac: Uint8Array;

  private constructor(fd: number, name: string, ifindex: number, mac: Uint8Array) {
    this.fd = fd;
    this.name = name;
    this.ifindex = ifindex;
    this.mac = mac;
  }

  /** Makes `netd0`, or the next that is free, in the calling thread's network namespace, and brings it up. */
  static create(options: TapOptions): Tap {
    const fd = libc.open(cstring("/dev/net/tun"), O_RDWR | O_NONBLOCK | O_CLOEXEC, 0);
    if (fd < 0)
      throw new SysError("open /dev/net/tun", errno(), "needs root and the module tun: modprobe tun");
    const control = libc.socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0);
    try {
      if (control < 0) throw new SysError("open a socket", errno());
      return configure(fd, control, options, (...parts) => new Tap(...parts));
    } catch (error) {
      libc.close(fd);
      throw error;
    } finally {
      libc.close(control);
    }
  }

  /** Removes the device. */
  close(): void {
    libc.close(this.fd);
  }
}

function configure<T>(
  fd: number,
  control: number,
  { ifname, mtu, address }: TapOptions,
  make: (fd: number, name: string, ifindex: number, mac: Uint8Array) => T,
): T {
  const request = new DataView(new ArrayBuffer(abi.ifreq.sizeof));
  const bytes = new Uint8Array(request.buffer);
  const call = (what: string, number: number, on = control): void => {
    if (libc.ioctl(on, number, ptr(request)) < 0) throw new SysError(`${what} the tap device`, errno());
  };
  bytes.set(cstring("netd%d"));
  request.setUint16(ifr_data, IFF_TAP | IFF_NO_PI, true);
  call("make", TUNSETIFF, fd);
  const name = Buffer.from(bytes.buffer).toString("latin1", 0, ifr_data).replace(/\0.*$/s, "");

  request.setInt32(ifr_data, mtu, true);
  call("set the MTU of", SIOCSIFMTU);
  request.setInt32(ifr_data, QUEUE_FRAMES, true);
  call("set the queue length of", SIOCSIFTXQLEN);
  sysctls(name, ifname);
  if (strictFilter()) {
    // Reverse path filtering drops what comes to a device without an address. While it is down this makes no route.
    for (const [what, number, word] of [
      ["set the address of", SIOCSIFADDR, address],
      ["set the netmask of", SIOCSIFNETMASK, -1],
    ] as const) {
      bytes.fill(0, ifr_data);
      request.setUint16(ifr_data, AF_INET, true);
      request.setInt32(ifr_data + 4, word, true);
      call(what, number);
    }
  }
  call("read the flags of", SIOCGIFFLAGS);
  request.setUint16(ifr_data, request.getUint16(ifr_data, true) | IFF_UP | IFF_NOARP, true);
  call("bring up", SIOCSIFFLAGS);
  call("read the address of", SIOCGIFHWADDR);
  const mac = bytes.slice(ifr_data + 2, ifr_data + 8);
  call("read the index of", SIOCGIFINDEX);
  return make(fd, name, request.getInt32(ifr_data, true), mac);
}

const conf = (family: "ipv4" | "ipv6", name: string, key: string): string =>
  `/proc/sys/net/${family}/conf/${name}/${key}`;

const read = (path: string): string => readFileSync(path, "latin1").trim();

const strictFilter = (): boolean => read(conf("ipv4", "all", "rp_filter")) !== "0";

/** What comes from netd has the card's own addresses as source, and there is nobody to talk to on the tap itself. */
function sysctls(name: string, card: string): void {
  const set = (family: "ipv4" | "ipv6", key: string, value: string): void =>
    writeFileSync(conf(family, name, key), value);
  set("ipv4", "accept_local", "1");
  set("ipv4", "rp_filter", strictFilter() ? "2" : "0"); // the higher of this and all's counts; 2 is loose
  let disabled: string;
  try {
    disabled = read(conf("ipv6", card, "disable_ipv6"));
  } catch {
    return; // no IPv6 in this kernel, or on this card
  }
  set("ipv6", "addr_gen_mode", "1"); // no link-local address
  set("ipv6", "accept_ra", "0");
  set("ipv6", "router_solicitations", "0");
  set("ipv6", "disable_ipv6", disabled);
}
