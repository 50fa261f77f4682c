import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";

const root = resolve(import.meta.dir, "..");

/** Which folders each may import, beside itself: the map's one-way rule. `*` is everything. */
const MAY: Record<string, readonly string[]> = {
  ffi: [],
  bpf: [],
  "src/mem": ["ffi"],
  "src/wire": [],
  "src/netbase": ["src/mem", "src/wire"],
  "src/netlink": ["ffi", "src/mem", "src/wire", "src/netbase"],
  "src/filter": ["src/wire"],
  "src/grants": ["src/wire"],
  "src/capture": ["ffi", "src/mem", "src/wire", "src/filter"],
  "src/link": ["ffi", "src/mem", "src/wire"],
  "src/xdp": ["ffi", "src/mem", "src/wire", "src/link"],
  "src/switch": [
    "ffi",
    "src/mem",
    "src/wire",
    "src/link",
    "src/netbase",
    "src/netlink",
    "src/filter",
    "src/xdp",
    "src/capture",
  ],
  "src/control": [
    "ffi",
    "src/mem",
    "src/wire",
    "src/link",
    "src/netbase",
    "src/netlink",
    "src/filter",
    "src/grants",
    "src/xdp",
    "src/switch",
  ],
  "src/client": ["ffi", "src/mem", "src/wire", "src/link", "src/grants", "src/control"],
  "src/lab": ["ffi", "src/mem", "src/wire", "src/netlink", "src/netbase", "src/link", "src/switch"],
};
/** Files that join folders into a running thread or program, and so see more than their folder. */
const JOINTS = /^src\/(\w+\.ts|\w+\/worker\.ts|lab\/(demo|grants)\.ts)$/;

const files = ["src", "ffi", "bpf"].flatMap((top) =>
  readdirSync(join(root, top), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts") && !name.endsWith(".d.ts"))
    .map((name) => `${top}/${name}`),
);

const folder = (file: string): string => {
  const dir = dirname(file);
  return dir === "src" || !dir.startsWith("src/") ? dir : dir.split("/").slice(0, 2).join("/");
};

const imports = (file: string): string[] =>
  new Bun.Transpiler({ loader: "ts" })
    .scanImports(readFileSync(join(root, file), "utf8"))
    .map(({ path }) => path);

/** Everything that a file imports, types too, which the transpiler leaves out. */
const allImports = (file: string): string[] => {
  const text = readFileSync(join(root, file), "utf8");
  const found = [...text.matchAll(/(?:from|import)\s*\(?\s*"([^"]+)"/g)].map((match) => match[1]!);
  return [...new Set([...found, ...imports(file)])];
};

describe("imports run one way", () => {
  test.each(files)("%s", (file) => {
    const own = folder(file);
    for (const path of allImports(file)) {
      if (path === "bun:ffi") expect(own, `${file} imports bun:ffi`).toBe("ffi");
      if (!path.startsWith(".")) continue;
      const target = relative(root, resolve(root, dirname(file), path));
      const to = folder(target);
      if (to === own || target.startsWith("build/") || target === "package.json" || JOINTS.test(file))
        continue;
      expect(MAY[own], `${file} imports ${target}`).toContain(to);
    }
  });

  test("no barrels, and no file over 400 lines without a reason in its head", () => {
    for (const file of files) {
      expect(file).not.toMatch(/index\.ts$/);
      const lines = readFileSync(join(root, file), "utf8").split("\n");
      if (lines.length > 400) expect(lines.slice(0, 12).join("\n"), file).toMatch(/over 400 lines/i);
    }
  });
});
