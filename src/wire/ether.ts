// The Ethernet header of a frame that begins at 2 mod 4, told by the word `ip` after it (src/switch/pass.ts has the
// picture). A link-layer address is two words: bytes 0..3, and bytes 4 and 5 in the low half.

export const ETHERNET = 14;
export const ETHERTYPE_IPV4 = 0x0008; // as a half in memory
export const ETHERTYPE_ARP = 0x0608;
export const ETHERTYPE_IPV6 = 0xdd86;

export const etherType = (words: Int32Array, ip: number): number => words[ip - 1]! >>> 16;

export const dstMac0 = (words: Int32Array, ip: number): number =>
  (words[ip - 4]! >>> 16) | (words[ip - 3]! << 16);
export const dstMac1 = (words: Int32Array, ip: number): number => words[ip - 3]! >>> 16;

/** Whether it is sent to a group, all included. */
export const isGroupMac = (words: Int32Array, ip: number): boolean => (words[ip - 4]! & 0x1_0000) !== 0;

export const isFrom = (words: Int32Array, ip: number, mac0: number, mac1: number): boolean =>
  words[ip - 2] === mac0 && (words[ip - 1]! & 0xffff) === mac1;

export const isTo = (words: Int32Array, ip: number, mac0: number, mac1: number): boolean =>
  dstMac0(words, ip) === mac0 && dstMac1(words, ip) === mac1;

export function setDst(words: Int32Array, ip: number, mac0: number, mac1: number): void {
  words[ip - 4] = (words[ip - 4]! & 0xffff) | (mac0 << 16);
  words[ip - 3] = (mac0 >>> 16) | (mac1 << 16);
}

export function setSrc(words: Int32Array, ip: number, mac0: number, mac1: number): void {
  words[ip - 2] = mac0;
  words[ip - 1] = (words[ip - 1]! & ~0xffff) | (mac1 & 0xffff);
}
