// Opening a shared library once, on first use; a library or symbol that is missing is one SysError that says what to install.
// dlopen from several Workers at once has crashed Bun: the main thread calls each accessor before it starts Workers.
import { dlopen, type FFIFunction } from "bun:ffi";
import { SysError } from "./errno.ts";

const ENOENT = 2;

/**
 * Returns a function that opens `file` on its first call and gives its symbols from then on.
 * @param debianPackage what to install if it does not open
 */
export function library<Fns extends Record<string, FFIFunction>>(
  file: string,
  debianPackage: string,
  symbols: Fns,
) {
  let opened: ReturnType<typeof dlopen<Fns>>["symbols"] | undefined;
  return () => {
    if (opened) return opened;
    try {
      opened = dlopen(file, symbols).symbols;
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new SysError(`open ${file}`, ENOENT, `${reason}; install it: apt-get install ${debianPackage}`);
    }
    return opened;
  };
}
