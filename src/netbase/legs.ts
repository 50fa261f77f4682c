// Lists of legs (rows.ts): copying and comparing.
import { Legs } from "./rows.ts";

export function copyLegs(from: Legs): Legs {
  const to = new Legs();
  for (let i = 0; i < from.n; i++) copyLeg(from, i, to);
  return to;
}

export function copyLeg(from: Legs, i: number, to: Legs): number {
  const leg = to.add();
  to.ifindex[leg] = from.ifindex[i]!;
  to.flags[leg] = from.flags[i]!;
  to.weight[leg] = from.weight[i]!;
  to.gatewayFamily[leg] = from.gatewayFamily[i]!;
  to.nhid[leg] = from.nhid[i]!;
  for (let k = 0; k < 4; k++) to.gateway[leg * 4 + k] = from.gateway[i * 4 + k]!;
  return leg;
}

/** Takes out the legs of weight 0, which no route has. */
export function dropLegs(legs: Legs): void {
  let n = 0;
  for (let i = 0; i < legs.n; i++) {
    if (legs.weight[i] === 0) continue;
    for (const list of [legs.ifindex, legs.flags, legs.weight, legs.gatewayFamily, legs.nhid])
      list[n] = list[i]!;
    legs.gateway.copyWithin(n * 4, i * 4, i * 4 + 4);
    n++;
  }
  legs.n = n;
}

export function sameLegs(a: Legs, b: Legs): boolean {
  if (a.n !== b.n) return false;
  for (let i = 0; i < a.n; i++) {
    if (a.ifindex[i] !== b.ifindex[i] || a.flags[i] !== b.flags[i] || a.weight[i] !== b.weight[i])
      return false;
    if (a.gatewayFamily[i] !== b.gatewayFamily[i] || a.nhid[i] !== b.nhid[i]) return false;
    for (let k = i * 4; k < i * 4 + 4; k++) if (a.gateway[k] !== b.gateway[k]) return false;
  }
  return true;
}

/** Whether leg `i` of `a` and leg `k` of `b` go to the same gateway over the same interface. */
export function sameTarget(a: Legs, i: number, b: Legs, k: number): boolean {
  if (a.ifindex[i] !== b.ifindex[k] || a.gatewayFamily[i] !== b.gatewayFamily[k]) return false;
  for (let w = 0; w < 4; w++) if (a.gateway[i * 4 + w] !== b.gateway[k * 4 + w]) return false;
  return true;
}
