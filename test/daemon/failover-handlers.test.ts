/** Which failover is cancelled: one that is handed over from here, or how the VM came here. */
import { randomUUID } from "node:crypto";
import t from "tap";
import { failoverHandlers } from "#lib/daemon/handlers/failover-handlers.js";
import type { HostParts } from "#lib/daemon/host-parts.js";

const VM_ID = randomUUID();
const FAR_ID = randomUUID();

interface Host {
  readonly isPromoted?: boolean;
  readonly givenAwayTo?: string;
}

/** What a host with VM web and its target far does when `vm` is named; each way ends by its name. */
async function cancelled(vm: string, { isPromoted, givenAwayTo }: Host): Promise<string> {
  const done = (what: string) => (id: string) => Promise.reject(new Error(`${what} ${id}`));
  const definition = { vmId: VM_ID, name: "web", targetId: "", disks: [], isPromoted };
  const parts = {
    vms: { find: (name: string) => (name === "web" || name === VM_ID ? definition : null) },
    replicaStore: { listVms: async () => [{ vmId: VM_ID, vm: { name: "web" } }] },
    failovers: { cancel: done("cancel") },
    engine: {
      has: () => true,
      givenAwayTo: () => givenAwayTo ?? null,
      targetsOf: () => [{ id: FAR_ID, name: "far" }],
      takeBack: done("take back"),
    },
  } as unknown as HostParts;
  const { failoverCancel } = failoverHandlers(parts);
  return failoverCancel({ force: true, withoutReplica: false }, { vm }).then(
    () => "nothing",
    (thrown: unknown) => (thrown as Error).message,
  );
}

void t.test("a VM is taken back from the target that has it, or is about to", async (t) => {
  for (const isPromoted of [false, true]) {
    for (const id of [VM_ID, FAR_ID]) {
      t.equal(await cancelled("web", { isPromoted, givenAwayTo: id }), `take back ${id}`);
    }
  }
  t.equal(await cancelled("web", {}), `take back ${VM_ID}`, "whose state says why not");
});

void t.test("one that came here, and did not go on, is given back", async (t) => {
  t.equal(await cancelled("web", { isPromoted: true }), `cancel ${VM_ID}`);
});

void t.test("a target that is named is meant", async (t) => {
  for (const isPromoted of [false, true]) {
    t.equal(await cancelled("web@far", { isPromoted }), `take back ${FAR_ID}`);
    const elsewhere = { isPromoted, givenAwayTo: VM_ID };
    t.equal(await cancelled("web@far", elsewhere), `take back ${FAR_ID}`);
    t.match(await cancelled("web@near", { isPromoted }), /Cannot find target near of VM web/);
  }
});
