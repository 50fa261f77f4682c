// Frames a second against line rates, in words and as a picture.

export interface Point {
  readonly name: string;
  /** a frame's, with its FCS */
  readonly bytes: number;
  /** Mpps */
  readonly ours: number;
  readonly peer: number;
}

const GBITS = [10, 25, 40];
/** Preamble, start of frame, and the gap between two. */
const BETWEEN = 20;

/** Millions of frames a second that so many Gbit/s have. */
const lineRate = (gbits: number, bytes: number): number => (gbits * 1000) / ((bytes + BETWEEN) * 8);

/** "64 bytes: 37.2 Mpps, 26.9 ns; 250% of 10 GbE, 100% of 25, 63% of 40". */
export function shares(name: string, bytes: number, mpps: number): string {
  const of = GBITS.map((gbits) => `${Math.round((mpps / lineRate(gbits, bytes)) * 100)}% of ${gbits} GbE`);
  return `${name}: ${mpps.toFixed(2)} Mpps, ${(1000 / mpps).toFixed(1)} ns; ${of.join(", ")}`;
}

const WIDTH = 880;
const LEFT = 190;
const ROW = 34;

/** Bars: ours, and what the peer had; marks where the line rates of each frame length are. */
export function plot(points: readonly Point[]): string {
  const most = Math.max(...points.flatMap(({ ours, peer }) => [ours, peer])) * 1.1;
  const x = (mpps: number): number => LEFT + (Math.min(mpps, most) / most) * (WIDTH - LEFT - 60);
  const rows = points.map(({ name, bytes, ours, peer }, i) => {
    const y = 40 + i * ROW;
    const marks = GBITS.filter((gbits) => lineRate(gbits, bytes) < most).map((gbits) => {
      const at = x(lineRate(gbits, bytes)).toFixed(1);
      return `<path d="M${at} ${y - 3}v26" stroke="#b00" stroke-dasharray="2 2"/><text x="${at}" y="${y - 4}" font-size="8" fill="#b00" text-anchor="middle">${gbits}G</text>`;
    });
    return `<text x="${LEFT - 8}" y="${y + 14}" text-anchor="end">${name}</text>
<rect x="${LEFT}" y="${y}" width="${(x(ours) - LEFT).toFixed(1)}" height="11" fill="#26c"/>
<rect x="${LEFT}" y="${y + 12}" width="${(x(peer) - LEFT).toFixed(1)}" height="7" fill="#aaa"/>
<text x="${x(ours) + 4}" y="${y + 10}" font-size="10">${ours.toFixed(1)}</text>${marks.join("")}`;
  });
  const height = 60 + points.length * ROW;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#fff"/>
<text x="12" y="18">Millions of frames a second, one core: netd routes them (blue), dpdk-testpmd receives them (grey); dashes: Ethernet line rates</text>
${rows.join("\n")}
</svg>
`;
}
