/** When the VM may be forgotten: its exports end then. */
import t from "tap";
import { LiveVms, type LiveVmsOptions } from "#lib/daemon/live/live-vms.js";
import { TidemarkError } from "#lib/model/errors.js";

const VM_ID = "8f3a3a3e-7a53-4bb9-8f0c-1c8f8f9d0a11";

/** Its disk is not what it should be, and from the second time on nobody answers. */
function hostOf(clientCount: number) {
  const hypervisor = { kind: "qemu", monitorPath: "/run/web.qmp" };
  const disks = [{ name: "vda", path: "/images/web" }];
  const definition = { vmId: VM_ID, name: "web", disks, hypervisor };
  const server = { address: "unix:/run/web.sock", clientCount: () => clientCount };
  const vms = {
    find: () => definition,
    definitions: () => [definition],
    servedNow: () => Promise.resolve({ definition, disks: [{}], server }),
  };
  let calls = 0;
  const connect = () => {
    calls += 1;
    const code = calls === 1 ? "IN_USE" : "UNREACHABLE";
    return Promise.reject(new TidemarkError(code, "No monitor."));
  };
  const options = { vms, connect, onNotice: () => undefined } as unknown as LiveVmsOptions;
  return new LiveVms(options);
}

void t.test("one that cannot be attended is let go", async (t) => {
  await using live = hostOf(0);
  await t.rejects(live.attend(VM_ID), { code: "IN_USE" });
  t.equal(live.find(VM_ID), null);
  await live.leave(VM_ID);
});

void t.test("but not while it may run by its filters", async (t) => {
  await using live = hostOf(1);
  await t.rejects(live.attend(VM_ID), { code: "IN_USE", message: "No monitor." });
  t.not(live.find(VM_ID), null);
  await t.rejects(live.leave(VM_ID), { code: "IN_USE", message: /vda is open/ });
  t.not(live.find(VM_ID), null);
});
