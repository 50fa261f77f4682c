// The configuration's section [grants]: who needs signed grants, and who signs them. src/control/grants.ts is what the control
// Worker reads of it.
import * as v from "valibot";
import { key, maybe, section, unique, whole } from "./schema.ts";

const path = "a path that is not empty";
const paths = "a list of different paths";
const names = 'names of interfaces, or "*"';
const ids = "a list of numbers";
const sources = "paths and URLs: http, https, unix:PATH or etcd://HOST:PORT/PREFIX";

const list = (expected: string) =>
  v.pipe(
    v.array(v.pipe(v.string(expected), v.nonEmpty(expected)), expected),
    v.check(unique<string>, expected),
  );
const id = whole(0, 0xffff_fffe);

export const GrantKeys = section(
  {
    host: maybe(
      v.pipe(v.string("a name"), v.nonEmpty("a name")),
      "This daemon's name in grants (aud); the machine's own if it is missing",
    ),
    interfaces: key(list(names), 'Interfaces whose clients need a grant or the policy; "*": all', []),
    users: key(v.array(id, ids), "uids whose clients need one on any interface", []),
    exempt: key(v.array(id, ids), "uids whose clients never need one", []),
    policy: maybe(
      v.pipe(v.string(path), v.nonEmpty(path)),
      "File that says what users of this host may have without a grant",
    ),
    issuers: key(
      list(paths),
      "Files with the keys of those whose grants are believed (JWKS with `issuer`)",
      [],
    ),
    revocations: key(
      list(sources),
      "Where their revocation lists come from: files, or servers; none: grants are good until they end",
      [],
    ),
    listSeconds: key(
      whole(1, 31_536_000, "seconds"),
      "Most age of a revocation list; with an older one nothing new is believed",
      300,
    ),
    skewSeconds: key(whole(0, 3600, "seconds"), "What an issuer's clock may be ahead of this host's", 5),
    directory: key(
      v.pipe(v.string(path), v.nonEmpty(path)),
      "Where the last list of each server is kept, to start without it",
      "/var/lib/netd",
    ),
  },
  "Signed grants, and who needs them",
);
