/** What /proc says of this machine's processes. */
import { readdir, readFile } from "node:fs/promises";

export interface ProcessFacts {
  readonly pid: number;
  readonly groupId: number;
}

/** Without those that have ended, and only wait for that being taken note of. */
export async function livingProcesses(): Promise<readonly ProcessFacts[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const found = await Promise.all(pids.map(factsOf));
  return found.filter((facts) => facts !== null);
}

/** Whether it was started with that variable; false where that is not ours to know. */
export async function hasVariable(pid: number, name: string, value: string): Promise<boolean> {
  const environment = await readFile(`/proc/${pid}/environ`, "utf8").catch(() => "");
  return environment.split("\0").includes(`${name}=${value}`);
}

async function factsOf(pid: string): Promise<ProcessFacts | null> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  // The name before them may hold anything, also parentheses.
  const [state = "", , groupId] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  if (groupId === undefined || "ZXx".includes(state)) return null;
  return { pid: Number(pid), groupId: Number(groupId) };
}
