// A plan's words (plan.ts), of what the control Worker found out.
import type { Field } from "../../filter/guard.ts";
import {
  hashValue,
  PLAN_ALWAYS,
  PLAN_FIELDS,
  PLAN_HEAD,
  PLAN_MEMBERS,
  PLAN_SLOTS,
  SLOT_WORDS,
} from "./plan.ts";

/**
 * @param always client and entry, in turn, of those that are always asked; @param fields by name
 * @param lists the same of those that a value of a field may be for, by the field's name and the value
 * @returns lists' places are relative to the plan's own: `placePlan` makes them whole
 */
export function planWords(
  members: number,
  always: readonly number[],
  fields: ReadonlyMap<string, Field>,
  lists: ReadonlyMap<string, readonly number[]>,
): Int32Array {
  const slots = 2 ** Math.ceil(Math.log2(Math.max(lists.size * 2, 2)));
  const slotsAt = PLAN_HEAD + always.length + fields.size * 2;
  let next = slotsAt + slots * SLOT_WORDS;
  const pairs = [...lists.values()].reduce((sum, list) => sum + 1 + list.length, 0);
  const words = new Int32Array(next + pairs);
  words[PLAN_MEMBERS] = members;
  words[PLAN_ALWAYS] = always.length / 2;
  words[PLAN_FIELDS] = fields.size;
  words[PLAN_SLOTS] = slots;
  words.set(always, PLAN_HEAD);
  const numbers = new Map<string, number>();
  let at = PLAN_HEAD + always.length;
  for (const [name, { off, size, mask, isAfterIp }] of fields) {
    numbers.set(name, numbers.size + 1);
    words[at++] = off | (size << 16) | (isAfterIp ? 1 << 24 : 0);
    words[at++] = mask;
  }
  for (const [key, list] of lists) {
    const [name, text] = key.split(" ");
    const field = numbers.get(name!)!;
    const value = Number(text) | 0;
    let i = hashValue(field, value) & (slots - 1);
    while (words[slotsAt + i * SLOT_WORDS] !== 0) i = (i + 1) & (slots - 1);
    words.set([field, value, next], slotsAt + i * SLOT_WORDS);
    words[next] = list.length / 2;
    words.set(list, next + 1);
    next += 1 + list.length;
  }
  return words;
}

/** Makes a plan's words fit for the place where they will be. */
export function placePlan(words: Int32Array, place: number): void {
  const slotsAt = PLAN_HEAD + words[PLAN_ALWAYS]! * 2 + words[PLAN_FIELDS]! * 2;
  for (let i = 0; i < words[PLAN_SLOTS]!; i++)
    if (words[slotsAt + i * SLOT_WORDS] !== 0) words[slotsAt + i * SLOT_WORDS + 2]! += place;
}
