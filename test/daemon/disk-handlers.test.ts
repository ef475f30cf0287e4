/** Whose disks may be changed. */
import { randomUUID } from "node:crypto";
import t from "tap";
import { diskHandlers } from "#lib/daemon/handlers/disk-handlers.js";
import type { HostParts } from "#lib/daemon/host-parts.js";
import { isGivenAway, type RelationshipState } from "#lib/model/relationship.js";

/** A host with one VM; `done` lists what became of its disks. `stateInTurn`: when they may change. */
function hostWith(state: RelationshipState, isWithheld = false, stateInTurn = state) {
  const done: string[] = [];
  let present = state;
  const disks = [{ diskId: randomUUID(), name: "vda", path: "a.raw", bitmapPath: "" }];
  const vm = { vmId: randomUUID(), name: "web", targetId: "", disks, isWithheld };
  const change = async () => void done.push("changed");
  const vms = {
    find: () => vm,
    definitions: () => [vm],
    served: () => Promise.reject(new Error("not served")),
    addDisk: change,
    removeDisk: change,
    excludeDisk: change,
    resizeDisk: change,
  };
  const engine = {
    has: () => true,
    idsOf: () => [vm.vmId],
    targetsOf: () => [],
    givenAwayTo: () => (isGivenAway({ state: present }) ? vm.vmId : null),
    status: () => Promise.reject(new Error("none")),
    changeDisks: (_vmId: string, work: () => Promise<void>) => {
      present = stateInTurn;
      return work();
    },
  };
  const live = { find: () => null };
  const parts = { vms, engine, live } as unknown as HostParts;
  return { handlers: diskHandlers(parts), done };
}

function changesOf({
  diskAdd,
  diskRemove,
  diskExclusion,
  diskResize,
}: ReturnType<typeof diskHandlers>) {
  const at = { vm: "web", disk: "vda" };
  return [
    () => diskAdd({ path: "b.raw", isExcluded: false }, at),
    () => diskRemove({ force: true }, at),
    () => diskExclusion({ isExcluded: true }, at),
    () => diskResize({ sizeBytes: 1 << 20, reconnectClients: false, dropsData: false }, at),
  ];
}

void t.test("the disks of a VM that is given away are not changed", async (t) => {
  for (const [state, isWithheld] of [
    ["handing-over", false],
    ["failed-over", false],
    ["replicating", true],
  ] as const) {
    const { handlers, done } = hostWith(state, isWithheld);
    for (const change of changesOf(handlers)) {
      await t.rejects(change(), { code: "CONFLICT", message: /failed over, or is about to be/ });
    }
    t.same(done, [], state);
  }
});

void t.test("nor those of one that is handed over before their turn comes", async (t) => {
  for (const index of [0, 1, 2, 3]) {
    const { handlers, done } = hostWith("replicating", false, "handing-over");
    const change = changesOf(handlers)[index];
    await t.rejects(async () => change?.(), { code: "CONFLICT" });
    t.same(done, []);
  }
});

void t.test("and those of any other are", async (t) => {
  for (const state of ["replicating", "suspended", "error"] as const) {
    const { handlers, done } = hostWith(state);
    for (const change of changesOf(handlers)) await change();
    t.equal(done.length, 4, state);
  }
});
