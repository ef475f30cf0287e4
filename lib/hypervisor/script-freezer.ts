import type { ApplicationFreezer, FreezeWay } from "../model/application-freezer.js";
import { TidemarkError } from "../model/errors.js";
import { ProcessGroup } from "./process-group.js";
import { hasVariable, livingProcesses } from "./processes.js";
import { requireSafeScript } from "./require-safe-script.js";
import { ScriptRun } from "./script-run.js";

const FREEZE_ID = "TIDEMARK_FREEZE_ID";
const KILLING_MS = 1000;

/**
 * Freezes by a script of the administrator's, and thaws by another: `SCRIPT freeze VM` and
 * `SCRIPT thaw VM`. What a freeze that ended well leaves running is left alone, it may be what
 * holds the applications; one that did not is killed before its thaw.
 */
export class ScriptFreezer implements ApplicationFreezer {
  readonly #way: FreezeWay;
  /** Freezes of this process that did not end well, or not yet. */
  readonly #unfinished = new Map<string, ProcessGroup>();
  readonly #begun = new Set<string>();
  readonly #thawed = new Set<string>();

  constructor(way: FreezeWay) {
    this.#way = way;
  }

  async freeze(freezeId: string, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    this.#begun.add(freezeId);
    await requireSafeScript(this.#way.freezeScript);
    signal.throwIfAborted();
    if (this.#thawed.has(freezeId)) throw thawedBefore(this.#way);
    const run = await this.#start("freeze", this.#way.freezeScript, freezeId);
    this.#unfinished.set(freezeId, run.group);
    await run.finish(signal);
    this.#unfinished.delete(freezeId);
  }

  async thaw(freezeId: string, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    this.#thawed.add(freezeId);
    const unfinished = await this.#unfinishedOf(freezeId);
    for (const group of unfinished) group.kill();
    const killed = Promise.all(unfinished.map((group) => group.hasEnded(KILLING_MS)));
    // It stands still only when it has ended; and if it does not, thawing has to be tried.
    const areAllKilled = (await killed).every((hasEnded) => hasEnded);
    await requireSafeScript(this.#way.thawScript);
    signal.throwIfAborted();
    const run = await this.#start("thaw", this.#way.thawScript, freezeId);
    await run.finish(signal);
    if (!areAllKilled) throw freezeGoesOn(this.#way);
    this.#unfinished.delete(freezeId);
  }

  #start(action: "freeze" | "thaw", path: string, freezeId: string): Promise<ScriptRun> {
    const { vmId, vmName } = this.#way;
    return ScriptRun.start({
      path,
      args: [action, vmName],
      variables: {
        TIDEMARK_ACTION: action,
        TIDEMARK_VM: vmName,
        TIDEMARK_VM_ID: vmId,
        [FREEZE_ID]: freezeId,
      },
      purpose: `${action} the applications of ${vmName}`,
    });
  }

  async #unfinishedOf(freezeId: string): Promise<readonly ProcessGroup[]> {
    const own = this.#unfinished.get(freezeId);
    if (own !== undefined) return [own];
    return this.#begun.has(freezeId) ? [] : scriptsOnTheirWay(freezeId);
  }
}

/** Of an earlier process: those of that freeze that have not ended. */
async function scriptsOnTheirWay(freezeId: string): Promise<ProcessGroup[]> {
  const found: ProcessGroup[] = [];
  for (const { pid, groupId } of await livingProcesses()) {
    const isScript = pid === groupId && (await hasVariable(pid, FREEZE_ID, freezeId));
    if (isScript) found.push(new ProcessGroup(groupId));
  }
  return found;
}

function thawedBefore({ vmName }: FreezeWay): TidemarkError {
  return new TidemarkError(
    "CANCELLED",
    `Cannot freeze the applications of ${vmName}: because they were thawed before.`,
  );
}

function freezeGoesOn({ vmName, freezeScript }: FreezeWay): TidemarkError {
  return new TidemarkError(
    "TIMED_OUT",
    `Cannot thaw the applications of ${vmName} for sure: because ${freezeScript} was killed, and does not end.`,
    { hint: "See what it waits for; it is tried on." },
  );
}
