// A DNS server for one zone file, on a card that netd serves. Questions are answered where they lie; what was asked before
// is answered from a table.
//   bun src/client/examples/dns.ts eth0 example.org.zone [PORT] [CONTROL SOCKET]
// Sources: RFC 1035 section 4 (messages), 2308 (SOA with what there is not).
import { udp } from "netd/client";
import { Zone } from "./zone.ts";

const [ifname = "eth0", file = "", port = "53", server] = Bun.argv.slice(2);
const zone = new Zone(await Bun.file(file).text());

const HEADER = 12;
const ANSWER = 0x8400; // response, authoritative
const TRUNCATED = 0x0200;
const [FORMERR, NXDOMAIN, NOTIMP, REFUSED] = [1, 3, 4, 5];
const MOST = 512;
const KNOWN = 100_000;

/** The answers to a question, by its bytes: flags and code, counts of answers and authorities, and they. */
interface Prepared {
  readonly flags: number;
  readonly answers: number;
  readonly authorities: number;
  readonly records: Buffer;
}
const known = new Map<string, Prepared>();

function prepare(name: string, type: number): Prepared {
  const empty = { answers: 0, authorities: 0, records: Buffer.alloc(0) };
  if (name !== zone.origin && !name.endsWith(`.${zone.origin}`)) return { flags: 0x8000 | REFUSED, ...empty };
  const { known, found, soa } = zone.find(name, type);
  if (found.length > 0)
    return { flags: ANSWER, answers: found.length, authorities: 0, records: Buffer.concat(found) };
  return {
    flags: ANSWER | (known ? 0 : NXDOMAIN),
    answers: 0,
    authorities: soa ? 1 : 0,
    records: soa ?? empty.records,
  };
}

/** Makes the query of `length` bytes at the head of `message` its answer, in room for `MOST`; returns its length, or 0. */
function answer(message: Buffer, length: number): number {
  if (length < HEADER || message[2]! >= 0x80) return 0; // too short, or an answer
  const head = (flags: number, questions: number, answers: number, authorities: number) => {
    message.writeUInt16BE(flags | ((message[2]! & 0x79) << 8), 2);
    for (const [i, count] of [questions, answers, authorities, 0].entries())
      message.writeUInt16BE(count, 4 + i * 2);
  };
  if ((message[2]! & 0x78) !== 0 || message.readUInt16BE(4) !== 1) {
    head(0x8000 | ((message[2]! & 0x78) !== 0 ? NOTIMP : FORMERR), 0, 0, 0);
    return HEADER;
  }
  let end = HEADER;
  while (end < length && message[end]! > 0 && message[end]! < 64) end += message[end]! + 1;
  end += 5; // the root, type, class
  if (end > length || message[end - 5] !== 0) {
    head(0x8000 | FORMERR, 0, 0, 0);
    return HEADER;
  }
  const key = message.toString("latin1", HEADER, end).toLowerCase();
  let prepared = known.get(key);
  if (prepared === undefined) {
    if (known.size === KNOWN) known.clear();
    let name = "";
    for (let at = HEADER; message[at]! > 0; at += message[at]! + 1)
      name += `${message.toString("latin1", at + 1, at + 1 + message[at]!).toLowerCase()}.`;
    prepared = prepare(name || ".", message.readUInt16BE(end - 4));
    known.set(key, prepared);
  }
  const { flags, answers, authorities, records } = prepared;
  if (end + records.length > MOST) {
    head(flags | TRUNCATED, 1, 0, 0);
    return end;
  }
  head(flags, 1, answers, authorities);
  records.copy(message, end);
  return end + records.length;
}

const socket = await udp.bind({
  interface: ifname,
  port: Number(port),
  server,
  socket: {
    batch(_socket, batch) {
      for (let i = 0; i < batch.n; i++) {
        const message = Buffer.from(batch.bytes.buffer, batch.off[i], Math.max(MOST, batch.len[i]!));
        const length = answer(message, batch.len[i]!);
        if (length > 0) batch.reply(i, length);
      }
    },
  },
});
console.log(`${zone.origin} on ${ifname} port ${socket.port}, by ${socket.channel.kind}`);
