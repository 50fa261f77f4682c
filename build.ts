// One binary: the daemon, its Workers and the BPF object, with Bun inside. It needs libbpf and libxdp, and no Bun,
// clang or sources. Nothing is read from the directory that it is started in: no .env, no bunfig, no tsconfig.
// `bun build.ts [FILE]`: dist/netd if it does not say.
const workers = [
  "src/netlink/worker.ts",
  "src/netlink/drain.ts",
  "src/netlink/wait.ts",
  "src/xdp/worker.ts",
  "src/control/worker.ts",
  "src/client/worker.ts",
  "src/lab/worker.ts",
];
const { exitCode } = Bun.spawnSync(
  [
    process.execPath,
    "build",
    "--compile",
    "--minify",
    "--no-compile-autoload-dotenv",
    "--no-compile-autoload-bunfig",
    "src/main.ts",
    ...workers,
    "--outfile",
    process.argv[2] ?? "dist/netd",
  ],
  { cwd: import.meta.dir, stdout: "inherit", stderr: "inherit" },
);
process.exit(exitCode);
