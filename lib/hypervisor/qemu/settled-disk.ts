import type { BlockDevice } from "./block-graph.js";
import type { BlockMonitor } from "./block-monitor.js";
import { DiskSwitch } from "./disk-switch.js";
import { type SwitchNames, switchNamesOf } from "./switch-names.js";

export interface SettledDisk {
  readonly device: BlockDevice;
  readonly diskSwitch: DiskSwitch;
  readonly names: SwitchNames;
}

/** A disk of the VM of which nothing is on its way any more, whatever an earlier process left. */
export async function settledDisk(
  monitor: BlockMonitor,
  diskName: string,
  signal: AbortSignal,
): Promise<SettledDisk> {
  const names = switchNamesOf(diskName);
  const diskSwitch = new DiskSwitch(monitor, names);
  await monitor.device(diskName, signal);
  await diskSwitch.settle();
  return { device: await monitor.device(diskName, signal), diskSwitch, names };
}
