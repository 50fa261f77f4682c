// A child of storm.test.ts: changes routes and neighbours of a namespace as fast as the kernel takes them.
//   bun stormwriter.ts NETNS IFINDEX SECONDS
import * as nl from "../../src/netlink/constants.ts";
import { delNeigh, newNeigh } from "../../src/netlink/neigh.ts";
import { Netns } from "../../src/netlink/netns.ts";
import { Rtnetlink } from "../../src/netlink/request.ts";
import { delRoute, newRoute } from "../../src/netlink/routeset.ts";
import { swap32 } from "../../src/wire/address.ts";

const [path, index, seconds] = process.argv.slice(2) as [string, string, string];
const socket = new Rtnetlink(Netns.open(path));
const ifindex = Number(index);
const v4 = (value: number, prefixLen: number) => ({ family: nl.AF_INET, words: [swap32(value)], prefixLen });
const replace = nl.NLM_F_CREATE | nl.NLM_F_REPLACE;
const end = performance.now() + Number(seconds) * 1000;
let changes = 0;
for (let round = 0; performance.now() < end; round++) {
  socket.batch((m) => {
    for (let i = 0; i < 2000; i++) {
      // Longer and shorter prefixes around those that never change, and some elsewhere, of both families.
      const at = (Math.imul(round * 2000 + i, 0x9e3779b1) >>> 12) & 0xfffff;
      const inside = v4((0x0a800000 | ((at & 0x3fff) << 8) | 0x80) >>> 0, 28);
      const around = v4((0x0a800000 | ((at & 0x3f) << 16)) >>> 0, 16);
      const elsewhere = v4((0xac000000 | ((at & 0x3fff) << 4)) >>> 0, 28);
      const far = `fd${(at & 0x3f) + 16}:${(at >>> 6) & 0xff}::/32`;
      const via = `10.0.0.${2 + (i % 8)}`;
      switch ((i + round) % 8) {
        case 0:
        case 1:
          newRoute(m, { dst: inside, via }, replace);
          break;
        case 2:
          delRoute(m, { dst: inside });
          break;
        case 3:
          newRoute(m, { dst: around, via }, replace);
          break;
        case 4:
          delRoute(m, { dst: around });
          break;
        case 5:
          newRoute(m, { dst: elsewhere, via }, replace);
          newRoute(m, { dst: far, via: `fd00::${2 + (i % 8)}` }, replace);
          break;
        case 6:
          delRoute(m, { dst: elsewhere });
          delRoute(m, { dst: far });
          break;
        default:
          newNeigh(m, {
            ifindex,
            dst: `10.0.${1 + (at & 7)}.${i & 255}`,
            lladdr: [2, 0, 0, 0, round & 255, i & 255],
          });
          newNeigh(m, { ifindex, dst: `fd00::1:${i & 255}`, lladdr: [2, 0, 0, 0, round & 255, i & 255] });
          delNeigh(m, { ifindex, dst: `10.0.${1 + ((at >>> 3) & 7)}.${(i * 7) & 255}` });
      }
      changes++;
    }
  });
}
console.log(changes);
