// Rows as aligned columns, for people. Widths come from the first rows; a later, longer cell just moves its line.
import { printable, type Style } from "./out.ts";

export interface Column<Row> {
  readonly title: string;
  readonly cell: (row: Row) => string | number | undefined;
  /** numbers stand to the right */
  readonly right?: boolean;
}

const MEASURED = 1000; // rows that are looked at before the first is printed

/** 1234567 -> "1,234,567" */
export const grouped = (value: number): string => String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, ",");

/** Renders to pieces of text, so that a long table is never one string. Empty columns are left out. */
export async function* table<Row>(
  columns: readonly Column<Row>[],
  rows: AsyncIterable<Row> | Iterable<Row>,
  { strong }: Style,
): AsyncGenerator<string> {
  const cells = (row: Row): string[] => columns.map(({ cell }) => printable(String(cell(row) ?? "")));
  let held: string[][] | undefined = [];
  let widths: number[] = [];
  const line = (texts: readonly string[]): string =>
    texts
      .map((text, i) => (columns[i]!.right ? text.padStart(widths[i]!) : text.padEnd(widths[i]!)))
      .filter((_, i) => widths[i]! > 0)
      .join("  ")
      .trimEnd();
  const head = (): string => {
    widths = columns.map(({ title }, i) => {
      const widest = Math.max(...held!.map((texts) => texts[i]!.length));
      return widest > 0 ? Math.max(widest, title.length) : 0;
    });
    const text = [strong(line(columns.map(({ title }) => title))), ...held!.map(line)].join("\n");
    held = undefined;
    return `${text}\n`;
  };
  let piece = "";
  for await (const row of rows) {
    if (held) {
      held.push(cells(row));
      if (held.length === MEASURED) yield head();
      continue;
    }
    piece += `${line(cells(row))}\n`;
    if (piece.length > 16384) {
      yield piece;
      piece = "";
    }
  }
  if (held) yield held.length > 0 ? head() : "none\n";
  yield piece;
}
