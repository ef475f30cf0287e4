import t from "tap";
import { MemoryHypervisor, MemoryMachine } from "#lib/model/memory-hypervisor.js";
import { hypervisorContract } from "../contracts/hypervisor.js";

const MIB = 1 << 20;

void hypervisorContract(t, "in memory", async () => {
  const machine = new MemoryMachine();
  for (const [name, format] of [
    ["root", "raw"],
    ["data", "qcow2"],
  ] as const) {
    machine.disks.set(name, {
      name,
      imagePath: `/images/${name}`,
      format,
      sizeBytes: 8 * MIB,
      isReadOnly: false,
      isDirect: true,
      filter: null,
    });
  }
  const filter = { socketPath: "/run/a", exportName: "root", imagePath: "/images/root" };
  const otherFilter = { ...filter, socketPath: "/run/b" };
  machine.served.add(filter.socketPath).add(otherFilter.socketPath);
  return {
    hypervisor: new MemoryHypervisor(new Map([["web", machine]])),
    filter,
    otherFilter,
    pause: async () => machine.tell({ kind: "paused" }),
    resume: async () => machine.tell({ kind: "resumed" }),
    bypass: async (diskName: string) => machine.bypass(diskName, "/images/overlay"),
    stop: async () => machine.stop(),
  };
});
