// pcapng, as much of it as netd writes: a section header, one interface, packets with a comment, and now and then what was lost.
// Source: draft-ietf-opsawg-pcapng (sections 4.1 to 4.3 and 4.6). Little-endian; timestamps in microseconds, the format's
// default; every block is padded to 32 bits and has its length at both ends.
//
//   type u32 | length u32 | body | options: {code u16, length u16, value, padding}..., 0 u32 | length u32

const SECTION = 0x0a0d0d0a;
const INTERFACE = 1;
const STATISTICS = 5;
const PACKET = 6;
const LINKTYPE_ETHERNET = 1;
const OPT_COMMENT = 1;
const SHB_USERAPPL = 4;
const IF_NAME = 2;
const EPB_FLAGS = 2;
const ISB_IFDROP = 5;

const padded = (bytes: number): number => (bytes + 3) & ~3;
const encoder = new TextEncoder();

/** Blocks into a buffer that grows; take() gives what was written. */
export class PcapngWriter {
  private view = new DataView(new ArrayBuffer(1 << 16));
  private bytes = new Uint8Array(this.view.buffer);
  private length = 0;

  /** Bytes that take() would give. */
  get pending(): number {
    return this.length;
  }

  /** What was written since the last time: a copy. */
  take(): Uint8Array<ArrayBuffer> {
    const taken = this.bytes.slice(0, this.length);
    this.length = 0;
    return taken;
  }

  /** The section, and its one interface. @param snapBytes bytes of a frame that are kept at most */
  begin(application: string, ifname: string, snapBytes: number): void {
    const section = this.open(SECTION, 16 + 4 + application.length * 3);
    this.u32(0x1a2b3c4d);
    this.u16(1);
    this.u16(0);
    this.u32(0xffffffff); // the section's length is not known
    this.u32(0xffffffff);
    this.text(SHB_USERAPPL, application);
    this.close(section);
    const card = this.open(INTERFACE, 8 + 4 + ifname.length * 3);
    this.u16(LINKTYPE_ETHERNET);
    this.u16(0);
    this.u32(snapBytes);
    this.text(IF_NAME, ifname);
    this.close(card);
  }

  /**
   * One frame. `seconds` and `nanoseconds` since 1970; `frameBytes` as it was on the wire, of which `data` is the beginning;
   * `direction` 0 unknown, 1 inbound, 2 outbound.
   */
  packet(
    seconds: number,
    nanoseconds: number,
    frameBytes: number,
    data: Uint8Array,
    direction: number,
    comment: string,
  ): void {
    const block = this.open(PACKET, 20 + data.length + 8 + 8 + comment.length * 3);
    this.u32(0);
    this.time(seconds, nanoseconds);
    this.u32(data.length);
    this.u32(frameBytes);
    this.bytes.set(data, this.length);
    this.zeros(data.length);
    this.text(OPT_COMMENT, comment);
    this.u16(EPB_FLAGS);
    this.u16(4);
    this.u32(direction);
    this.close(block);
  }

  /** Frames that matched and could not be kept, from the beginning until now. */
  lost(seconds: number, nanoseconds: number, frames: number): void {
    const block = this.open(STATISTICS, 12 + 12);
    this.u32(0);
    this.time(seconds, nanoseconds);
    this.u16(ISB_IFDROP);
    this.u16(8);
    this.u32(frames);
    this.u32(0);
    this.close(block);
  }

  /** Begins a block with room for a body of `bytes` bytes and ends of options. Returns where it begins. */
  private open(type: number, bytes: number): number {
    const need = this.length + bytes + 64;
    if (need > this.bytes.length) {
      const more = new Uint8Array(new ArrayBuffer(2 ** Math.ceil(Math.log2(need))));
      more.set(this.bytes.subarray(0, this.length));
      this.bytes = more;
      this.view = new DataView(more.buffer);
    }
    const at = this.length;
    this.u32(type);
    this.u32(0);
    return at;
  }

  private close(block: number): void {
    this.u32(0); // the end of the options
    const bytes = this.length + 4 - block;
    this.view.setUint32(block + 4, bytes, true);
    this.u32(bytes);
  }

  private u16(value: number): void {
    this.view.setUint16(this.length, value, true);
    this.length += 2;
  }

  private u32(value: number): void {
    this.view.setUint32(this.length, value, true);
    this.length += 4;
  }

  private time(seconds: number, nanoseconds: number): void {
    const micros = seconds * 1e6 + Math.floor(nanoseconds / 1000);
    this.u32(Math.floor(micros / 4294967296));
    this.u32(micros % 4294967296);
  }

  private text(code: number, value: string): void {
    const { written } = encoder.encodeInto(value, this.bytes.subarray(this.length + 4));
    this.u16(code);
    this.u16(written);
    this.zeros(written);
  }

  /** Goes past `bytes` bytes that were written, padding them with zeros: the buffer held others before. */
  private zeros(bytes: number): void {
    const end = this.length + padded(bytes);
    this.bytes.fill(0, this.length + bytes, end);
    this.length = end;
  }
}
