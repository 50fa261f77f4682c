// A permission server's state in a SQLite file: one machine.
import { Database } from "bun:sqlite";
import type { Issued, Revoked, State } from "./state.ts";

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS serials (serial INTEGER PRIMARY KEY AUTOINCREMENT);
  CREATE TABLE IF NOT EXISTS grants (serial INTEGER PRIMARY KEY, until INTEGER NOT NULL, record TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS revoked (id TEXT PRIMARY KEY, until INTEGER NOT NULL, why TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY, until INTEGER NOT NULL);
  CREATE TABLE IF NOT EXISTS list (one INTEGER PRIMARY KEY CHECK (one = 1), text TEXT NOT NULL);
`;

export class SqliteState implements State {
  private readonly db: Database;

  /** @param path ":memory:" for none */
  constructor(path: string) {
    this.db = new Database(path, { create: true, strict: true });
    this.db.run("PRAGMA journal_mode = WAL");
    this.db.run("PRAGMA busy_timeout = 5000");
    this.db.run(SCHEMA);
  }

  async serial(): Promise<number> {
    return Number(this.db.run("INSERT INTO serials DEFAULT VALUES").lastInsertRowid);
  }

  async add(grant: Issued): Promise<void> {
    this.db
      .query("INSERT INTO grants VALUES ($serial, $until, $record)")
      .run({ serial: grant.serial, until: grant.until, record: JSON.stringify(grant) });
  }

  async grant(serial: number): Promise<Issued | undefined> {
    const row = this.db
      .query<{ record: string }, { serial: number }>("SELECT record FROM grants WHERE serial = $serial")
      .get({ serial });
    return row ? (JSON.parse(row.record) as Issued) : undefined;
  }

  async grants(): Promise<Issued[]> {
    const rows = this.db.query<{ record: string }, []>("SELECT record FROM grants ORDER BY serial").all();
    return rows.map(({ record }) => JSON.parse(record) as Issued);
  }

  async revoke({ id, until, why }: Revoked): Promise<void> {
    this.db
      .query("INSERT INTO revoked VALUES ($id, $until, $why) ON CONFLICT DO NOTHING")
      .run({ id, until, why });
  }

  async revoked(): Promise<Revoked[]> {
    return this.db.query<Revoked, []>("SELECT id, until, why FROM revoked ORDER BY id").all();
  }

  async list(): Promise<string | undefined> {
    return this.db.query<{ text: string }, []>("SELECT text FROM list").get()?.text;
  }

  async publish(list: string, before: string | undefined): Promise<boolean> {
    const { changes } =
      before === undefined
        ? this.db.query("INSERT INTO list VALUES (1, $list) ON CONFLICT DO NOTHING").run({ list })
        : this.db.query("UPDATE list SET text = $list WHERE text = $before").run({ list, before });
    return changes === 1;
  }

  async once(id: string, seconds: number): Promise<boolean> {
    const now = Date.now() / 1000;
    this.db.query("DELETE FROM seen WHERE until < $now").run({ now });
    const seen = this.db.query("INSERT INTO seen VALUES ($id, $until) ON CONFLICT DO NOTHING");
    return seen.run({ id, until: now + seconds }).changes === 1;
  }

  async prune(now: number): Promise<void> {
    for (const table of ["grants", "revoked"])
      this.db.query(`DELETE FROM ${table} WHERE until < $now`).run({ now });
  }

  close(): void {
    this.db.close();
  }
}
