// A permission server's state in etcd: a fleet, with as many servers as it likes.
//
//   serial            the last number that was given
//   grants/000000000017    revoked/ID    what state.ts says, as JSON
//   seen/ID           a request that was answered; kept by a lease
//   list              the revocation list, which daemons watch
import { Etcd } from "./etcd.ts";
import type { Issued, Revoked, State } from "./state.ts";

/** The key that daemons watch. */
export const LIST = "list";
const DIGITS = 12;

export class EtcdState implements State {
  private readonly etcd: Etcd;

  constructor(url: string) {
    this.etcd = new Etcd(url);
  }

  async serial(): Promise<number> {
    for (;;) {
      const before = await this.etcd.get("serial");
      const next = Number(before?.value ?? 0) + 1;
      if (await this.etcd.swap("serial", `${next}`, before)) return next;
    }
  }

  async add(grant: Issued): Promise<void> {
    await this.etcd.put(grantKey(grant.serial), JSON.stringify(grant));
  }

  async grant(serial: number): Promise<Issued | undefined> {
    const found = await this.etcd.get(grantKey(serial));
    return found && (JSON.parse(found.value) as Issued);
  }

  async grants(): Promise<Issued[]> {
    return (await this.etcd.all("grants/")).map(({ value }) => JSON.parse(value) as Issued);
  }

  async revoke(revoked: Revoked): Promise<void> {
    await this.etcd.swap(`revoked/${revoked.id}`, JSON.stringify(revoked), undefined);
  }

  async revoked(): Promise<Revoked[]> {
    return (await this.etcd.all("revoked/")).map(({ value }) => JSON.parse(value) as Revoked);
  }

  async list(): Promise<string | undefined> {
    return (await this.etcd.get(LIST))?.value;
  }

  async publish(list: string, before: string | undefined): Promise<boolean> {
    const now = await this.etcd.get(LIST);
    return now?.value === before && this.etcd.swap(LIST, list, now);
  }

  once(id: string, seconds: number): Promise<boolean> {
    return this.etcd.swap(`seen/${id}`, "", undefined, seconds);
  }

  async prune(now: number): Promise<void> {
    for (const grant of await this.grants())
      if (grant.until < now) await this.etcd.delete(grantKey(grant.serial));
    for (const { id, until } of await this.revoked())
      if (until < now) await this.etcd.delete(`revoked/${id}`);
  }

  close(): void {
    // Every request has a connection of its own.
  }
}

const grantKey = (serial: number): string => `grants/${`${serial}`.padStart(DIGITS, "0")}`;
