// A compiled BPF object, imported with { type: "file" }: its path, also inside the compiled binary.
declare module "*.o" {
  const path: string;
  export default path;
}
