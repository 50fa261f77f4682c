// Rows as aligned columns, for people. Widths come from the first rows; a later, longer cell just moves its line.
import { printable, type Style } from "./out.ts";

export interface Column<Row> {
  readonly title: string;
  readonly cell: (row: Row) => string | number | undefined;
  /** numbers stand to the right */
  readonly right?: boolean;
}

const BATCH = 500; // rows that are printed at once; the first such give the widths

/** 1234567 -> "1,234,567" */
export const grouped = (value: number): string => String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, ",");

/** Columns and their widths. */
class Layout<Row> {
  private readonly columns: readonly Column<Row>[];
  private widths: number[] = [];

  constructor(columns: readonly Column<Row>[]) {
    this.columns = columns;
  }

  cells(row: Row): string[] {
    return this.columns.map(({ cell }) => printable(String(cell(row) ?? "")));
  }

  /** Takes the widths from these rows, and returns the titles' line. `all`: no more will come, so empty columns go. */
  measure(rows: readonly string[][], all: boolean): string {
    this.widths = this.columns.map(({ title }, i) => {
      const widest = Math.max(...rows.map((cells) => cells[i]!.length));
      return widest > 0 || !all ? Math.max(widest, title.length) : 0;
    });
    return this.line(this.columns.map(({ title }) => title));
  }

  line(cells: readonly string[]): string {
    return cells
      .map((text, i) =>
        this.columns[i]!.right ? text.padStart(this.widths[i]!) : text.padEnd(this.widths[i]!),
      )
      .filter((_, i) => this.widths[i]! > 0)
      .join("  ")
      .trimEnd();
  }
}

/** A short table's lines, the titles first. */
export function align<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  { strong }: Style,
): string[] {
  const layout = new Layout(columns);
  const cells = rows.map((row) => layout.cells(row));
  return [strong(layout.measure(cells, true)), ...cells.map((texts) => layout.line(texts))];
}

/** A table of any length, as pieces of text. */
export async function* table<Row>(
  columns: readonly Column<Row>[],
  rows: AsyncIterable<Row>,
  { strong }: Style,
): AsyncGenerator<string> {
  const layout = new Layout(columns);
  let titled = false;
  let batch: Row[] = [];
  const piece = (last: boolean): string => {
    const cells = batch.map((row) => layout.cells(row));
    const titles = titled ? [] : [strong(layout.measure(cells, last))];
    titled = true;
    batch = [];
    return [...titles, ...cells.map((texts) => layout.line(texts)), ""].join("\n");
  };
  for await (const row of rows) {
    batch.push(row);
    if (batch.length === BATCH) yield piece(false);
  }
  if (batch.length > 0) yield piece(true);
  else if (!titled) yield "none\n";
}
