// Neighbours that the kernel seems to bring back. Its timer changes an entry's state under the entry's lock but tells of
// it after letting go (net/core/neighbour.c, neigh_timer_handler, neigh_update); another CPU may flush the entry and tell
// of that in between. What arrives last is then the state of an entry that is no more, and nothing follows: a dump has
// to say whether it is there. Changes that somebody asked for carry his port id and cannot be overtaken (RTNL).
import type { NeighRow } from "../netbase/rows.ts";

const SLOTS = 4096;

export class Ghosts {
  /** Hashes of neighbours that went, each in the slot that it says; 0 none. */
  private readonly gone = new Int32Array(SLOTS);

  went(neigh: NeighRow): void {
    const hash = hashOf(neigh);
    this.gone[hash & (SLOTS - 1)] = hash;
  }

  /** A neighbour came: whether it had gone before. Told once. */
  returned(neigh: NeighRow): boolean {
    const hash = hashOf(neigh);
    const slot = hash & (SLOTS - 1);
    if (this.gone[slot] !== hash) return false;
    this.gone[slot] = 0;
    return true;
  }
}

function hashOf({ ifindex, family, dst }: NeighRow): number {
  let h = Math.imul(ifindex ^ (family << 24), 0x9e3779b1);
  for (let i = 0; i < 4; i++) h = Math.imul(h ^ (h >>> 15) ^ dst[i]!, 0x85ebca6b);
  return h ^ (h >>> 13) || 1;
}
