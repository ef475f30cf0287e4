/** When a host gives up its disks of a VM that went on elsewhere, and when not. */
import { randomUUID } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import t from "tap";
import { FormerVms } from "#lib/daemon/former-vms.js";
import type { VmDefinition } from "#lib/daemon/open-vm-disks.js";
import type { PrimaryVms } from "#lib/daemon/primary-vms.js";
import { firstEntry, type Lineage, successorOf } from "#lib/model/lineage.js";
import type { RelationshipState } from "#lib/model/relationship.js";
import type { LeftAt } from "#lib/replication/own-differences.js";
import type { ReplicationEngine } from "#lib/replication/replication-engine.js";
import { scratchDirectory } from "../support/program.js";

const VM_ID = randomUUID();
const directory = await scratchDirectory(t);
const path = join(directory, "disk.raw");
await writeFile(path, "a disk");

const own = firstEntry({ number: 1, id: randomUUID() });
const id = randomUUID();
const forkPointId = randomUUID();
const formerHeadId = randomUUID();
const marks = [{ diskId: randomUUID(), changed: [0, 4096], suspect: [] }];
const next = successorOf(own.generation, id, {
  forkPointId,
  holderId: id,
  cause: "unplanned-failover",
});
const lineage: Lineage = [own, next];

interface Host {
  readonly state?: RelationshipState;
  readonly definition?: Partial<VmDefinition>;
  readonly isUnchanged?: boolean;
}

/** A host as far as FormerVms sees it; `done` lists what it did to it. */
function hostWith({ state = "failed-over", definition = {}, isUnchanged = false }: Host) {
  const done: string[] = [];
  const disk = { diskId: randomUUID(), name: "vda", path, bitmapPath: `${path}.tidemark` };
  const vm = { vmId: VM_ID, name: "web", targetId: VM_ID, disks: [disk], ...definition };
  const vms = {
    find: (vmId: string) => (vmId === VM_ID ? vm : null),
    letGo: async () => void done.push("close"),
  };
  const engine = {
    idsOf: (vmId: string) => [vmId],
    standingOf: () => ({ state, generation: own.generation, holderId: own.holderId }),
    letGo: async (_vmId: string, leftAt: LeftAt) => {
      done.push("let go");
      const isAsked = leftAt.forkPointId === forkPointId && leftAt.formerHeadId === formerHeadId;
      return { isUnchanged: isUnchanged && isAsked, marks: isAsked ? marks : null };
    },
  };
  const former = new FormerVms(
    vms as unknown as PrimaryVms,
    engine as unknown as ReplicationEngine,
  );
  return { former, done };
}

void t.test("disks of a VM that went on elsewhere are let go of, replication first", async (t) => {
  const { former, done } = hostWith({ isUnchanged: true });
  const released = await former.release(VM_ID, lineage, formerHeadId);
  t.same(released.generation, own.generation);
  t.same([...released.paths.values()], [path]);
  t.equal(released.isUnchanged, true);
  t.same(released.marks, marks);
  t.same(done, ["let go", "close"]);
});

void t.test("T42: nothing is given up on a peer's word alone", async (t) => {
  for (const state of ["replicating", "error", "suspended", "handing-over"] as const) {
    const { former, done } = hostWith({ state });
    const refused = { code: "CONFLICT", retryable: true, message: new RegExp(state) };
    await t.rejects(former.release(VM_ID, lineage), refused);
    t.same(done, []);
  }
  const { former, done } = hostWith({});
  await t.rejects(former.release(VM_ID, [own]), { code: "FENCED" }, "it has the VM itself");
  const stranger = firstEntry({ number: 2, id: randomUUID() });
  await t.rejects(former.release(VM_ID, [stranger]), { code: "FENCED" }, "of another history");
  await t.rejects(former.release(randomUUID(), lineage), { code: "NOT_FOUND" });
  t.same(done, []);
});

void t.test("disks that cannot be a base where they are stay", async (t) => {
  const disk = { diskId: randomUUID(), name: "vda", bitmapPath: "" };
  for (const place of ["nbd://localhost/x", "/dev/null", join(directory, "gone")]) {
    const { former, done } = hostWith({ definition: { disks: [{ ...disk, path: place }] } });
    await t.rejects(former.release(VM_ID, lineage), { code: "UNSUPPORTED", message: place });
    t.same(done, []);
  }
  const { former } = hostWith({ definition: { isPromoted: true } });
  await t.rejects(former.release(VM_ID, lineage), { code: "CONFLICT", hint: /Complete it/ });
});
