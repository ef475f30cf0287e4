import { readFile } from "node:fs/promises";

/** Of /proc; the kernel shows 100 to user space on every architecture that Node runs on. */
const TICKS_PER_SECOND = 100;

/** User and system time of all threads of a process. */
export async function cpuSecondsOf(processId: number): Promise<number> {
  const fields = await statFields(String(processId));
  return ticksAt(fields, 14) + ticksAt(fields, 15);
}

/** Of the children that this process has waited for, with theirs. */
export async function endedChildrenCpuSeconds(): Promise<number> {
  const fields = await statFields("self");
  return ticksAt(fields, 16) + ticksAt(fields, 17);
}

/** The most memory that a process had resident, in MiB. */
export async function peakMemoryMib(processId: number): Promise<number> {
  const status = await readFile(`/proc/${processId}/status`, "utf8");
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) / 1024;
}

/** Of this process and of the children that it has waited for, with theirs. */
async function ownCpuSeconds(): Promise<number> {
  const fields = await statFields("self");
  return [14, 15, 16, 17].reduce((sum, field) => sum + ticksAt(fields, field), 0);
}

/** CPU time that the machine has spent on anything, in seconds. */
async function busyCpuSeconds(): Promise<number> {
  const [line = ""] = (await readFile("/proc/stat", "utf8")).split("\n");
  const [user = 0, nice = 0, system = 0, , , irq = 0, softIrq = 0, steal = 0] = line
    .split(/\s+/)
    .slice(1)
    .map(Number);
  return (user + nice + system + irq + softIrq + steal) / TICKS_PER_SECOND;
}

export interface MachineTime {
  readonly wallSeconds: number;
  readonly busySeconds: number;
  readonly ownSeconds: number;
}

export async function machineTime(): Promise<MachineTime> {
  return {
    wallSeconds: performance.now() / 1000,
    busySeconds: await busyCpuSeconds(),
    ownSeconds: await ownCpuSeconds(),
  };
}

/** How much of the machine went to processes that are not ours, in percent. */
export function othersCpuPercent(
  before: MachineTime,
  after: MachineTime,
  cpuCount: number,
): number {
  const busy = after.busySeconds - before.busySeconds;
  const own = after.ownSeconds - before.ownSeconds;
  const capacity = (after.wallSeconds - before.wallSeconds) * cpuCount;
  if (capacity <= 0) return 0;
  return Math.min(100, Math.max(0, ((busy - own) / capacity) * 100));
}

/** proc(5) counts fields from 1; the name in field 2 may hold blanks and brackets. */
async function statFields(processId: string): Promise<string[]> {
  const text = await readFile(`/proc/${processId}/stat`, "utf8");
  return ["", "", ...text.slice(text.lastIndexOf(")") + 2).split(" ")];
}

function ticksAt(fields: readonly string[], field: number): number {
  return Number(fields[field - 1] ?? 0) / TICKS_PER_SECOND;
}
