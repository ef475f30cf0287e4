import { TidemarkError } from "../../model/errors.js";
import { failpoint } from "../../model/failpoint.js";
import { orAborted } from "../../model/or-aborted.js";
import type { BlockJob, BlockMonitor } from "./block-monitor.js";
import type { SwitchNames } from "./switch-names.js";

/**
 * QEMU's mirror, as the way from one node to another over the same storage.
 *
 * Only "write-blocking" is right there, and without a first copy: each write goes to the source
 * and then to the target before the guest has its answer. The background mode would copy by
 * itself, later, what may be older than what the guest has written since. Before a first copy
 * QEMU may clear the target, and with it the source.
 */
export class MirrorJob {
  readonly #monitor: BlockMonitor;
  readonly #names: SwitchNames;

  constructor(monitor: BlockMonitor, names: SwitchNames) {
    this.#monitor = monitor;
    this.#names = names;
  }

  /** Resolves when every write goes to both. */
  async start(from: string, to: string, signal: AbortSignal): Promise<void> {
    const { jobId, mirrorNode } = this.#names;
    const args = {
      "job-id": jobId,
      device: from,
      target: to,
      sync: "none",
      "copy-mode": "write-blocking",
      "filter-node-name": mirrorNode,
      "on-target-error": "report",
      // Who comes after the death of this process has to see how it ended.
      "auto-dismiss": false,
    };
    await this.#monitor.qmp.execute("blockdev-mirror", args, signal);
    const job = await this.#until(["ready", "concluded"], signal);
    if (job.status !== "ready") throw failed(job);
  }

  /** From here on the switch comes by itself. */
  async order(signal: AbortSignal): Promise<void> {
    await this.#monitor.qmp.execute("job-complete", { id: this.#names.jobId }, signal);
  }

  /** Resolves when the guest's disk is the target, and the source is not used any more. */
  async finish(signal: AbortSignal): Promise<void> {
    const job = await this.#until(["concluded"], signal);
    if (job.error !== undefined) throw failed(job);
    failpoint("filter.switched");
    await this.#dismiss(signal);
  }

  /** Ends what there is of it, also of another process: the guest's disk is the source, or the target. */
  async settle(signal: AbortSignal): Promise<void> {
    const id = this.#names.jobId;
    const job = await this.#monitor.job(id, signal);
    if (job === null) return;
    if (job.status !== "concluded") {
      // By force, so that requests to a target that does not answer end, too. Refused when it ends already.
      const args = { device: id, force: true };
      await this.#monitor.qmp
        .execute("block-job-cancel", args, signal)
        .catch(() => signal.throwIfAborted());
      await this.#until(["concluded"], signal);
    }
    await this.#dismiss(signal);
  }

  async #dismiss(signal: AbortSignal): Promise<void> {
    await this.#monitor.qmp.execute("job-dismiss", { id: this.#names.jobId }, signal);
  }

  async #until(wanted: readonly string[], signal: AbortSignal): Promise<BlockJob> {
    const { qmp } = this.#monitor;
    let onChange = () => {};
    const unlisten = qmp.onEvent(({ name }) => {
      if (name === "JOB_STATUS_CHANGE") onChange();
    });
    try {
      for (;;) {
        const changed = new Promise<void>((resolve) => (onChange = resolve));
        const job = await this.#monitor.job(this.#names.jobId, signal);
        if (job === null) throw vanished();
        if (wanted.includes(job.status)) return job;
        const gone = qmp.ended.then((reason) => Promise.reject(reason));
        await orAborted(Promise.race([changed, gone]), signal);
      }
    } finally {
      unlisten();
    }
  }
}

function failed(job: BlockJob): TidemarkError {
  return new TidemarkError(
    "IO_ERROR",
    `QEMU's mirror ended before the switch: ${job.error ?? "it was cancelled"}.`,
    { hint: "Check that the filter serves the disk, and repeat it." },
  );
}

function vanished(): TidemarkError {
  return new TidemarkError("CONFLICT", "QEMU's mirror is gone: because another program ended it.", {
    hint: "Repeat it while nobody else changes the VM's disks.",
  });
}
