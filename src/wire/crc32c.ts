// CRC32c, SCTP's checksum (RFC 9260 appendix A): over the bytes of a packet with its own field zero, kept there with its
// lowest byte first.
const POLYNOMIAL = 0x82f63b78; // 0x1edc6f41, bits reversed

const TABLE = Int32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? POLYNOMIAL : 0);
  return crc;
});

/** Of `bytes` bytes from `byte` of little-endian words on, as a memory word of the field. */
export function crc32c(words: Int32Array, byte: number, bytes: number): number {
  let crc = -1;
  for (let at = byte; at < byte + bytes; at++) {
    const next = words[at >>> 2]! >>> ((at & 3) << 3);
    crc = (crc >>> 8) ^ TABLE[(crc ^ next) & 0xff]!;
  }
  return ~crc;
}
