// How many objects there are on the heap, those that nobody has any more among them: what code makes, before the collector
// comes. With mapped tables it comes late, since they count as heap.
import { heapStats } from "bun:jsc";

export const objects = (): number =>
  Object.values(heapStats().objectTypeCounts).reduce((sum, count) => sum + count, 0);
