// Generic netlink: which families the kernel has, what they can do and tell, and requests to them.
//   nlmsghdr, its type the family's id | struct genlmsghdr: u8 command | u8 version | u16 | attributes
// Families are found by name: their ids are given out as modules load (linux/genetlink.h; net/netlink/genetlink.c).
import { SysError } from "../../ffi/errno.ts";
import type { Naming } from "./ack.ts";
import type { Attributes } from "./attribute.ts";
import type { Options } from "./collection.ts";
import { NETLINK_GENERIC, NLM_F_DUMP } from "./constants.ts";
import { CTRL_ATTR, CTRL_ATTR_MCAST_GRP, CTRL_ATTR_OP } from "./genlattribute.ts";
import { messageLength, type Requests } from "./message.ts";
import { Feed, Stream } from "./monitor.ts";
import type { Netns } from "./netns.ts";
import { as, list, nested, Schema, text, u16, u32, type Unnamed, type Writing } from "./object/codec.ts";
import { Bits, type HexBit } from "./object/kind.ts";
import { Puller } from "./pull.ts";
import { Rtnetlink } from "./request.ts";

const GENL_ID_CTRL = 16;
const CTRL_CMD_GETFAMILY = 3;
const ENOENT = 2;
const EBADMSG = 74;

const OP_FLAGS = ["admin", "do", "dump", "policy", "nsAdmin"] as const;
/** GENL_ADMIN_PERM, GENL_CMD_CAP_DO, _DUMP, _HASPOL, GENL_UNS_ADMIN_PERM */
export type OperationFlag = (typeof OP_FLAGS)[number];

export interface GenlFamily extends Unnamed {
  id: number;
  name: string;
  version: number;
  /** of the family's own header, after genlmsghdr */
  headerBytes: number;
  /** its largest attribute type; 0 where every command has its own */
  maxAttribute: number;
  operations?: readonly { id: number; flags: readonly (OperationFlag | HexBit)[] }[];
  /** multicast groups */
  groups?: readonly { name: string; id: number }[];
}

const family = new Schema(CTRL_ATTR as Attributes, {
  FAMILY_ID: as("id", u16),
  FAMILY_NAME: as("name", text),
  VERSION: u32,
  HDRSIZE: as("headerBytes", u32),
  MAXATTR: as("maxAttribute", u32),
  OPS: as(
    "operations",
    list(
      nested(
        new Schema(CTRL_ATTR_OP as Attributes, { ID: u32, FLAGS: new Bits<OperationFlag>(OP_FLAGS).u32 }),
      ),
    ),
  ),
  MCAST_GROUPS: as(
    "groups",
    list(nested(new Schema(CTRL_ATTR_MCAST_GRP as Attributes, { NAME: text, ID: u32 }))),
  ),
});

/** For the fuzzer. */
export const familySchema: Schema = family;

/** One command of a family: how its attributes are written and read. */
export interface Command {
  family: string;
  command: number;
  /** for errors: "ETHTOOL_MSG_RINGS_GET" */
  name: string;
  attributes: Attributes;
  schema: Schema;
  version?: number;
}

const CONTROL: Command = {
  family: "nlctrl",
  command: CTRL_CMD_GETFAMILY,
  name: "CTRL_CMD_GETFAMILY",
  attributes: CTRL_ATTR as Attributes,
  schema: family,
  version: 2,
};

/** What a family tells by multicast. */
export interface GenlNotice {
  command: number;
  version: number;
  /** by type: decoded by the schema that was given, otherwise as bytes */
  attributes: object;
  overrun?: undefined;
}
/** The kernel dropped notifications here: nobody knows which. */
export interface GenlOverrun {
  overrun: true;
  command?: undefined;
  version?: undefined;
  attributes?: undefined;
}

/** Generic netlink in one namespace. Sockets are opened when they are needed. */
export class Genl {
  private readonly netns: Netns;
  private readonly to: Writing;
  private requests: Rtnetlink | undefined;
  private puller: Puller | undefined;
  private readonly ids = new Map<string, number>([["nlctrl", GENL_ID_CTRL]]);
  private readonly streams = new Set<Stream<GenlNotice | GenlOverrun>>();

  constructor(netns: Netns, to: Writing) {
    this.netns = netns;
    this.to = to;
  }

  /** All families, with their operations and multicast groups. */
  async families(options: Options = {}): Promise<GenlFamily[]> {
    return (await this.dump(CONTROL, {}, options)) as GenlFamily[];
  }

  /** The family of that name. @throws NetlinkError (ENOENT) if the kernel has none, or its module is not loaded */
  async family(name: string, options: Options = {}): Promise<GenlFamily> {
    return (await this.call(CONTROL, { name }, options)) as GenlFamily;
  }

  /** One request with these attributes; returns the answer's, or {} where only an ack comes. @throws NetlinkError */
  async call(command: Command, attributes: object, { signal }: Options = {}): Promise<object> {
    signal?.throwIfAborted();
    const id = await this.id(command.family);
    this.requests ??= new Rtnetlink(this.netns, NETLINK_GENERIC);
    const { requests } = this;
    let answer: object | undefined;
    requests.naming = naming(command);
    requests.get(
      (m) => this.write(m, id, 0, command, attributes),
      (words, bytes, off, len) => {
        answer ??= decode(command.schema, words, bytes, off, len);
      },
    );
    return answer ?? {};
  }

  /** All answers to a dump with these attributes. @throws NetlinkError */
  async dump(command: Command, attributes: object, { signal }: Options = {}): Promise<object[]> {
    signal?.throwIfAborted();
    const id = await this.id(command.family);
    this.puller ??= new Puller(this.netns, NETLINK_GENERIC);
    const { blocks } = await this.puller.pull((m) => this.write(m, id, NLM_F_DUMP, command, attributes), {
      signal,
      naming: naming(command),
    });
    const answers: object[] = [];
    for (const { words, bytes, length } of blocks) {
      let off = 0;
      for (let len: number; (len = messageLength(words, off, length)) > 0; off += (len + 3) & ~3)
        answers.push(decode(command.schema, words, bytes, off, len));
    }
    return answers;
  }

  /** What the family's multicast group of that name tells. @throws NetlinkError, SysError (ENOENT) */
  async monitor(
    familyName: string,
    group: string,
    { signal, schema = nothing }: Options & { schema?: Schema } = {},
  ): Promise<Stream<GenlNotice | GenlOverrun>> {
    signal?.throwIfAborted();
    const { groups = [] } = await this.family(familyName);
    const id = groups.find(({ name }) => name === group)?.id;
    if (id === undefined)
      throw new SysError(
        `group ${group} of ${familyName}`,
        ENOENT,
        groups.map(({ name }) => name).join(", "),
      );
    const feed = new Feed({ netns: this.netns, protocol: NETLINK_GENERIC, groups: [id] });
    const stream: Stream<GenlNotice | GenlOverrun> = new Stream<GenlNotice | GenlOverrun>(
      () => {
        const found: (GenlNotice | GenlOverrun)[] = [];
        let taken: ReturnType<Feed["take"]>;
        do {
          taken = feed.take((_type, words, bytes, off, len) => {
            if (len < 20) return;
            const attributes = decode(schema, words, bytes, off, len);
            found.push({ command: bytes[off + 16]!, version: bytes[off + 17]!, attributes });
          });
          if (taken === "overrun") found.push({ overrun: true });
        } while (taken !== "nothing" && found.length === 0);
        return found;
      },
      () => {
        feed.close();
        this.streams.delete(stream);
      },
      signal,
    );
    this.streams.add(stream);
    feed.onData = () => stream.wake();
    feed.onError = (error) => stream.fail(error);
    return stream;
  }

  close(): void {
    for (const stream of [...this.streams]) stream.close();
    this.requests?.close();
    this.puller?.close();
  }

  private async id(name: string): Promise<number> {
    const known = this.ids.get(name);
    if (known !== undefined) return known;
    const { id } = await this.family(name);
    this.ids.set(name, id);
    return id;
  }

  private write(m: Requests, id: number, flags: number, command: Command, attributes: object): void {
    const off = m.begin(id, flags, 4);
    m.bytes[off] = command.command;
    m.bytes[off + 1] = command.version ?? 1;
    command.schema.encode(m, attributes, this.to);
  }
}

const nothing = new Schema({} as Attributes, {});
const naming = ({ name, attributes }: Command): Naming => ({ name, headerBytes: 4, attributes });

function decode(schema: Schema, words: Int32Array, bytes: Uint8Array, off: number, len: number): object {
  const answer = {};
  if (len < 20 || !schema.decode(words, bytes, off + 20, off + len, answer))
    throw new SysError("decode generic netlink", EBADMSG);
  return answer;
}
