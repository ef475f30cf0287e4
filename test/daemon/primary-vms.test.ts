/** A VM that was failed over to this host, and those who ask for it at that moment. */
import { randomUUID } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate as tick } from "node:timers/promises";
import t from "tap";
import { PrimaryVms } from "#lib/daemon/primary-vms.js";
import { MemoryStateStore } from "#lib/model/memory-state-store.js";
import { backingOf, openBacking } from "#lib/tracking/disk-backing.js";
import { scratchDirectory } from "../support/program.js";

const directory = await scratchDirectory(t);
const path = join(directory, "disk.raw");
await writeFile(path, Buffer.alloc(1 << 20));
const [vmId, diskId] = [randomUUID(), randomUUID()];

function newHost() {
  let openCount = 0;
  const vms = new PrimaryVms({
    store: new MemoryStateStore(),
    socketDirectory: join(directory, "nbd"),
    spillDirectory: join(directory, "spill"),
    bitmapDirectory: join(directory, "bitmaps"),
    durability: "process-safe",
    capture: { memoryBytes: 1 << 20, spillBytes: 1 << 20 },
    onNotice: () => undefined,
    openPromoted: async () => {
      openCount += 1;
      return openBacking(backingOf(path));
    },
  });
  return { vms, openCount: () => openCount };
}

void t.test("its disks are opened once, whoever asks for it at that moment", async (t) => {
  const { vms, openCount } = newHost();
  await vms.start();
  t.teardown(() => vms.close());
  const disk = { diskId, name: "vda", path, bitmapPath: join(directory, "vda.tidemark") };
  const definition = { vmId, name: "web", targetId: vmId, disks: [disk], isPromoted: true };
  let isAdopted = false;
  const adopting = vms
    .adopt(definition, (disk) => disk.addTarget(vmId, "suspect"))
    .finally(() => {
      isAdopted = true;
    });
  while (!isAdopted) {
    if (vms.find(vmId) !== null) void vms.served(vmId).catch(() => undefined);
    await tick();
  }
  await adopting;
  for (let turn = 0; turn < 20; turn += 1) await tick();
  const { disks, server } = await vms.served(vmId);
  t.equal(openCount(), 1);
  t.equal(disks[0]?.targets().length, 1);
  t.equal(server.clientCount("vda"), 0, "and it is served");
});
