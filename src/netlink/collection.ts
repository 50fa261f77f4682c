// The library's objects of one kind: what can be asked of the kernel about them and changed. What kinds differ in is
// in kinds.ts; a batch has the changes alone.
import type { NetlinkError } from "./ack.ts";
import { IFLA } from "./attribute.ts";
import { NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE } from "./constants.ts";
import { Dump } from "./listing.ts";
import type { Requests } from "./message.ts";
import type { Writing } from "./object/codec.ts";
import type { Kind } from "./object/kind.ts";
import type { Blocks, Fill, PullOptions } from "./pull.ts";

export interface Options {
  /** Aborts what has not been done yet. */
  signal?: AbortSignal;
}

/** What a collection needs of its session. */
export interface Session extends Writing {
  pull(fill: Fill, options: PullOptions): Promise<Blocks>;
  /** One request whose answer is one message; undefined if there is no such object. */
  ask<T extends object>(kind: Kind<T>, fill: Fill): T | undefined;
}

const RTM_NEWLINKPROP = 108;
const RTM_DELLINKPROP = 109;

/** One kind of objects: how they are dumped, found and identified. */
export interface Definition<T extends object, Key, Filter> {
  readonly kind: Kind<T>;
  /** RTNLGRP_* that tell of changes */
  readonly groups: readonly number[];
  /** those of them that a dump must not hear, since the kernel does not say that it was interrupted */
  readonly watch: (filter: Filter) => readonly number[];
  /** The requests whose answers together are what the filter asks for. */
  dumps(filter: Filter, to: Writing): Fill[];
  /** Whether an object is what the filter asks for; undefined where the kernel's own filters are exact. */
  matches(filter: Filter, to: Writing): ((object: T) => boolean) | undefined;
  /** The key as an object to be written. */
  identify(key: Key, to: Writing): object;
  /** Asks for one, where the kernel can; otherwise it is looked for in a dump. */
  get?(m: Requests, key: Key, to: Writing): void;
  find?(key: Key, to: Writing): { filter: Filter; matches: (object: T) => boolean };
}

/** Takes the messages of changes: sends them, or collects them. */
export interface Sink<R> extends Writing {
  change(fill: Fill, options: Options | undefined): R;
}

/** Changes of one kind. In a batch they return the change's number, otherwise they are done when the promise resolves. */
export class Changes<Spec extends object, Key, R> {
  // biome-ignore lint/suspicious/noExplicitAny: changes need neither objects nor filters
  protected readonly definition: Definition<any, Key, any>;
  protected readonly sink: Sink<R>;

  // biome-ignore lint/suspicious/noExplicitAny: changes need neither objects nor filters
  constructor(definition: Definition<any, Key, any>, sink: Sink<R>) {
    this.definition = definition;
    this.sink = sink;
  }

  /** Makes one that must not be there yet (EEXIST). @throws NetlinkError */
  add(spec: Spec, options?: Options): R {
    return this.write(0, NLM_F_CREATE | NLM_F_EXCL, spec, options);
  }

  /** Makes one, or changes the one that is there. @throws NetlinkError */
  replace(spec: Spec, options?: Options): R {
    return this.write(0, NLM_F_CREATE | NLM_F_REPLACE, spec, options);
  }

  /** Removes one. @throws NetlinkError if there is none */
  delete(key: Key, options?: Options): R {
    return this.write(1, 0, () => this.definition.identify(key, this.sink), options);
  }

  protected write(which: number, flags: number, object: object | (() => object), options?: Options): R {
    const { kind } = this.definition;
    return this.sink.change((m) => {
      const written = typeof object === "function" ? object() : object;
      kind.encode(m, kind.type + which, flags, written, this.sink);
    }, options);
  }
}

/** With a change of what is there, by the same key as `add`. */
export class Changeable<Spec extends object, Key, R> extends Changes<Spec, Key, R> {
  /** Changes the one of this key, which must be there (ENOENT). @throws NetlinkError */
  change(spec: Spec, options?: Options): R {
    return this.write(0, NLM_F_REPLACE, spec, options);
  }
}

/** Links are changed by index or name, and only in what is given. */
export class LinkChanges<Spec extends object, Edit extends object, Key, R> extends Changes<Spec, Key, R> {
  /** Changes what is given: up, mtu, name, master, namespace... @throws NetlinkError */
  change(key: Key, edit: Edit, options?: Options): R {
    return this.write(0, 0, () => ({ ...edit, ...this.definition.identify(key, this.sink) }), options);
  }

  /** Gives the link further names, by which it can be found too. @throws NetlinkError */
  addNames(key: Key, names: readonly string[], options?: Options): R {
    return this.names(RTM_NEWLINKPROP, NLM_F_CREATE | NLM_F_EXCL, key, names, options);
  }

  /** Takes such names away. @throws NetlinkError */
  deleteNames(key: Key, names: readonly string[], options?: Options): R {
    return this.names(RTM_DELLINKPROP, 0, key, names, options);
  }

  private names(type: number, flags: number, key: Key, names: readonly string[], options?: Options): R {
    return this.sink.change((m) => {
      const { index } = this.definition.identify(key, this.sink) as { index: number };
      m.words[(m.begin(type, flags, 16) >> 2) + 1] = index;
      const mark = m.nest(IFLA.PROP_LIST);
      for (const name of names) m.text(IFLA.ALT_IFNAME, name);
      m.end(mark);
    }, options);
  }
}

/** Routes of one key are an ordered list. */
export class RouteChanges<Spec extends object, Key, R> extends Changeable<Spec, Key, R> {
  /** Puts it after those of its key (IPv4); adds a next hop to the one that is there (IPv6). @throws NetlinkError */
  append(spec: Spec, options?: Options): R {
    return this.write(0, NLM_F_CREATE | NLM_F_APPEND, spec, options);
  }

  /** Puts it before those of its key (IPv4). @throws NetlinkError */
  prepend(spec: Spec, options?: Options): R {
    return this.write(0, NLM_F_CREATE, spec, options);
  }
}

/** What can be asked about one kind. */
export class Asking<T extends object, Key, Filter extends object> {
  private readonly definition: Definition<T, Key, Filter>;
  private readonly session: Session;

  constructor(definition: Definition<T, Key, Filter>, session: Session) {
    this.definition = definition;
    this.session = session;
  }

  /** All that the filter asks for; the kernel filters where it can. */
  dump(filter: Filter = {} as Filter, options: Options = {}): Dump<T> {
    const { definition, session } = this;
    const { signal } = options;
    return new Dump<T>(
      async () => {
        const pulled: Blocks[] = [];
        for (const fill of definition.dumps(filter, session))
          pulled.push(await session.pull(fill, { signal, watch: definition.watch(filter) }));
        return pulled;
      },
      definition.kind.decode,
      definition.matches(filter, session),
      signal,
    );
  }

  /** The one of this key; undefined if there is none. @throws NetlinkError */
  async get(key: Key, options: Options = {}): Promise<T | undefined> {
    const { definition, session } = this;
    options.signal?.throwIfAborted();
    if (definition.get) return session.ask(definition.kind, (m) => definition.get!(m, key, session));
    const { filter, matches } = definition.find!(key, session);
    for await (const object of this.dump(filter, options)) if (matches(object)) return object;
    return undefined;
  }
}

/** A change that the kernel refused. */
export interface Refusal {
  /** which change of the batch, from 0: what its method returned */
  index: number;
  error: NetlinkError;
}
