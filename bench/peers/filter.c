/* libpcap's interpreter, bpf_filter(), over the programs and frames that bench/filter.ts wrote:
 *   peer-filter PROGRAMS FRAMES SECONDS
 * PROGRAMS: u32 number; each u32 instructions, then struct bpf_insn[].  FRAMES: u32 number; u32 offset[], length[]; bytes.
 * Prints ns a frame for each program, and how many frames it took, which must be what ours took. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct bpf_insn;
unsigned bpf_filter(const struct bpf_insn *, const unsigned char *, unsigned wire, unsigned buffer);

static void *slurp(const char *path) {
  FILE *f = fopen(path, "rb");
  if (!f) { perror(path); exit(1); }
  fseek(f, 0, SEEK_END);
  long n = ftell(f);
  rewind(f);
  void *bytes = malloc(n);
  if (fread(bytes, 1, n, f) != (size_t)n) { perror(path); exit(1); }
  fclose(f);
  return bytes;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e9 + t.tv_nsec;
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  uint32_t *programs = slurp(argv[1]), *frames = slurp(argv[2]);
  uint32_t n = frames[0], *offs = frames + 1, *lens = offs + n;
  const unsigned char *bytes = (const unsigned char *)(lens + n);
  double seconds = atof(argv[3]);
  uint32_t count = *programs++;
  for (uint32_t p = 0; p < count; p++) {
    uint32_t length = *programs++;
    const struct bpf_insn *code = (const void *)programs;
    double best = 1e9;
    uint32_t taken = 0;
    for (double end = now() + seconds * 1e9; now() < end;) {
      double start = now();
      taken = 0;
      for (uint32_t i = 0; i < n; i++) taken += bpf_filter(code, bytes + offs[i], lens[i], lens[i]) != 0;
      double ns = (now() - start) / n;
      if (ns < best) best = ns;
    }
    printf("{\"case\":\"%u\",\"value\":%.3f}\n{\"case\":\"%u taken\",\"value\":%u}\n", p, best, p, taken);
    programs += length * 2;
  }
  return 0;
}
