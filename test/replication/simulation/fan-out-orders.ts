/** What administrators order of three hosts; nobody waits for it, and it is refused where it does not fit. */
import { randomUUID } from "node:crypto";
import { takeReplicaOver } from "#lib/daemon/take-replica-over.js";
import { type LineageEntry, presentEntry, successorOf } from "#lib/model/lineage.js";
import type { NewRelationshipSettings } from "#lib/model/relationship-settings.js";
import { isGivenAway, type RelationshipRecord } from "#lib/model/relationship.js";
import type { FanOutHost, FanOutLeg } from "./fan-out-leg.js";
import type { FanOutScene, SimulatedHost } from "./fan-out-scene.js";
import { SETTINGS, TARGET_ID, VM_ID } from "./scene.js";
import type { WatchedReplica } from "./watched-replica.js";

export class FanOutOrders {
  readonly #scene: FanOutScene;

  constructor(scene: FanOutScene) {
    this.#scene = scene;
  }

  attempt(name: string, order: () => Promise<unknown>): void {
    const ordered = async () => order();
    ordered().then(
      () => this.#scene.count(name),
      () => this.#scene.count(`${name} refused`),
    );
  }

  remove(leg: FanOutLeg, record: RelationshipRecord): void {
    const { targetId } = record.settings;
    if (isGivenAway(record)) this.#force(leg, record);
    leg.removing.add(targetId);
    const removed = () =>
      leg.engine
        .remove(leg.idOf(record))
        .then(() => this.#serveWithout(leg))
        .finally(() => leg.removing.delete(targetId));
    this.attempt("removal", removed);
  }

  /** As a host does: one that was failed over to it is nowhere else. */
  #serveWithout(leg: FanOutLeg): void {
    const isPromoted = leg.host.watched.promotion !== null && !leg.isEnded;
    if (isPromoted && leg.engine.idsOf(VM_ID).length === 0) leg.guest.isServed = true;
  }

  /** What was handed over while its removal was on its way is removed as such. */
  async noteForced(leg: FanOutLeg): Promise<void> {
    if (leg.removing.size === 0) return;
    for (const record of await leg.records()) {
      const { targetId } = record.settings;
      const isNew = leg.removing.has(targetId) && !leg.removed.has(targetId);
      if (isNew && isGivenAway(record)) this.#force(leg, record);
    }
  }

  /** One more target: by a first copy, or by taking the replica over that is there. */
  async add(leg: FanOutLeg, host: SimulatedHost): Promise<void> {
    const records = await leg.records();
    const isThere = records.some(({ settings }) => settings.replicaUrl === host.url);
    const isBusy = leg.adding.has(host.url) || leg.isEnded || leg.isAsked;
    if (leg.host === host || isThere || isBusy) return;
    // As long as guests are kept away it is another host's, or being removed as such.
    if (records.some(isGivenAway) || (records.length > 0 && !leg.guest.isServed)) return;
    leg.adding.add(host.url);
    const { life } = leg;
    try {
      await this.#addNow(leg, host);
    } catch {
      this.#scene.count("adding refused");
    } finally {
      if (life === leg.life) leg.adding.delete(host.url);
    }
  }

  async reverse(leg: FanOutLeg): Promise<void> {
    const { former } = leg;
    if (former === null || former.isEnded || leg.engine.has(VM_ID)) return;
    const status = await leg.host.watched.status();
    if (status?.lineage === undefined || leg.adding.has(former.host.url)) return;
    await leg.watch(TARGET_ID, former.host);
    const settings = this.#settingsTo(former.host, TARGET_ID, undefined);
    const { lineage } = status;
    this.attempt("reversal", () => leg.engine.reverse(settings, lineage));
  }

  /** By mistake, or because the primary seems to be gone. */
  async promote({ watched, leg }: SimulatedHost): Promise<void> {
    const status = await watched.status();
    if (leg !== null || status?.lineage === undefined) return;
    const points = await watched.replica.points(VM_ID);
    const usable = points.filter(({ pointId }) => !watched.branchPointIds.has(pointId));
    if (usable.length === 0) return;
    const { pointId } = this.#scene.random.pick(usable);
    await this.#succeed(watched, "unplanned-failover", pointId, null);
  }

  /** What the VM wrote there is dropped; refused while it is replicated from there. */
  async cancel(leg: FanOutLeg): Promise<void> {
    const { watched } = leg.host;
    const { promotion } = watched;
    if (promotion === null) return;
    const records = await leg.records();
    if (records.length > 0 || leg.adding.size > 0) {
      for (const record of records) this.remove(leg, record);
      return;
    }
    this.drop(leg);
    const { lineage = [] } = (await watched.status()) ?? {};
    const former = lineage.find(({ generation }) => generation.id === promotion.parentId);
    await this.#succeed(watched, "cancelled", promotion.forkPointId, former?.holderId ?? null);
  }

  drop(leg: FanOutLeg): void {
    leg.end();
    for (const host of this.#scene.hosts) if (host.leg === leg) host.leg = null;
  }

  /** An explicit order to serve the VM whoever has it. */
  #force(leg: FanOutLeg, { settings }: RelationshipRecord): void {
    const { hosts, count } = this.#scene;
    count("removal of one that has the VM");
    leg.removed.add(settings.targetId);
    leg.forcedFrom.add(settings.replicaUrl);
    const there = hosts.find(({ url }) => url === settings.replicaUrl)?.leg;
    if (there?.former === leg) there.isCertain = false;
  }

  async #addNow(leg: FanOutLeg, host: SimulatedHost): Promise<void> {
    const { random, count } = this.#scene;
    // With its last target the VM was removed; it is defined anew.
    if ((await leg.records()).length === 0) leg.guest.isServed = true;
    const isReserved = leg.former !== null || leg.engine.has(VM_ID);
    const targetName = isReserved || random.chance(0.5) ? host.url.slice(8, 10) : undefined;
    const settings = this.#settingsTo(host, randomUUID(), targetName);
    leg.engine.requireEnableable(settings);
    if ((await host.watched.status()) === null) {
      await leg.watch(settings.targetId, host);
      await leg.engine.enable(settings);
      return count("enabled");
    }
    const status = await takeReplicaOver(leg.endpointTo(host), "guest", settings);
    await leg.watch(settings.targetId, host);
    await leg.engine.takeOver(settings, status);
    count("taken over and noted");
  }

  #settingsTo(
    { url: replicaUrl }: FanOutHost,
    targetId: string,
    targetName: string | undefined,
  ): NewRelationshipSettings {
    const intervalMs = this.#scene.random.pick([500, 1000, 3000]);
    return { ...SETTINGS, targetId, targetName, replicaUrl, intervalMs };
  }

  async #succeed(
    watched: WatchedReplica,
    cause: LineageEntry["cause"],
    forkPointId: string | null,
    holderId: string | null,
  ): Promise<void> {
    const { lineage = [] } = (await watched.status()) ?? {};
    const { generation: from } = presentEntry(lineage);
    const id = randomUUID();
    const to = successorOf(from, id, { forkPointId, holderId: holderId ?? id, cause });
    await watched
      .succeed({ vmId: VM_ID, from, to }, null)
      .catch(() => this.#scene.count("succession refused"));
  }
}
