/** Two VMs of a consistency group between two real hosts. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { contentOfPoint, eventually, Guest, type Pair, startPair } from "./loopback-host.js";
import type { Teardown } from "./program.js";

export class GroupScene {
  readonly pair: Pair;
  readonly guests: readonly Guest[];

  private constructor(pair: Pair, guests: readonly Guest[]) {
    this.pair = pair;
    this.guests = guests;
  }

  /** Two VMs of the group, with a cut that has a point of both. */
  static async start(t: Teardown): Promise<GroupScene> {
    const directory = await mkdtemp(join(tmpdir(), "tidemark-groups-"));
    t.teardown(() => rm(directory, { recursive: true, force: true }));
    const pair = await startPair(t, directory);
    const guests = [await Guest.make(directory, "web"), await Guest.make(directory, "db")];
    t.teardown(() => guests.forEach((guest) => guest.disconnect()));
    const scene = new GroupScene(pair, guests);
    for (const guest of guests) {
      await guest.enable(pair.primary, pair.replicaUrl);
      await pair.primary.api.call("vmGroup", { group: "shop" }, { vm: guest.name });
    }
    await eventually("a complete cut", () => scene.newestComplete());
    return scene;
  }

  cuts() {
    return this.pair.replica.api.call("groupPointList", {}, { group: "shop" });
  }

  async newestComplete() {
    return (await this.cuts()).findLast((cut) => cut.isComplete);
  }

  /** Whether the points of the newest complete cut hold what the guests were acknowledged. */
  async isReplicated(): Promise<boolean> {
    const { replica } = this.pair;
    const cut = await this.newestComplete();
    for (const guest of this.guests) {
      const { vmId } = await replica.vm(guest.name);
      const pointId = cut?.points.find((point) => point.vmId === vmId)?.pointId ?? "";
      const content = await contentOfPoint(replica, guest.name, pointId);
      if (!content.equals(guest.content)) return false;
    }
    return cut?.points.length === this.guests.length;
  }
}
