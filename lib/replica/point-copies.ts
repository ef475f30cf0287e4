import { randomUUID } from "node:crypto";
import { isAbsolute, join } from "node:path";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import type { CopyFormat, PointCopy } from "../model/point-copies.js";
import { AsyncLock } from "./async-lock.js";
import { copyPoint } from "./copy-point.js";
import { NodeStoreFiles } from "./node-store-files.js";
import type { OpenedPoint } from "./opened-point.js";
import type { ReplicaStore } from "./replica-store.js";

export interface PointCopiesOptions {
  readonly store: ReplicaStore;
  readonly socketDirectory: string;
}

export interface NewCopy {
  readonly vmId: string;
  readonly pointId: string;
  readonly format: CopyFormat;
  /** Absolute; the copy becomes a directory in it. */
  readonly parentDirectory: string;
}

interface Job {
  copy: PointCopy;
  readonly stop: AbortController;
  ended: Promise<void>;
}

/** How many that have ended are remembered. */
const REMEMBERED = 100;

/** Copies of recovery points to files, one at a time; replication goes on meanwhile. */
export class PointCopies implements AsyncDisposable {
  readonly #options: PointCopiesOptions;
  readonly #turn = new AsyncLock();
  readonly #jobs = new Map<string, Job>();

  constructor(options: PointCopiesOptions) {
    this.#options = options;
  }

  list(): readonly PointCopy[] {
    return [...this.#jobs.values()].map(({ copy }) => copy);
  }

  find(copyId: string): PointCopy {
    return this.#require(copyId).copy;
  }

  /** Begins one; `find` tells how far it is. */
  async start({ vmId, pointId, format, parentDirectory }: NewCopy): Promise<PointCopy> {
    await requireDirectory(parentDirectory);
    const point = await this.#options.store.openPoint(vmId, pointId, "passing");
    const pointSequence = point.point.sequence;
    const directory = join(parentDirectory, `${vmId}-point-${pointSequence}`);
    if (this.list().some((one) => one.directory === directory && one.state === "running")) {
      point.release();
      throw new TidemarkError("IN_USE", `Cannot copy to ${directory}: because a copy to it runs.`);
    }
    const job: Job = {
      copy: {
        copyId: randomUUID(),
        vmId,
        pointId,
        pointSequence,
        format,
        directory,
        state: "running",
        copiedBytes: 0,
        totalBytes: point.disks.reduce((sum, disk) => sum + disk.geometry.sizeBytes, 0),
        disks: [],
        failure: null,
      },
      stop: new AbortController(),
      ended: Promise.resolve(),
    };
    this.#jobs.set(job.copy.copyId, job);
    job.ended = this.#turn.run(() => this.#run(job, point));
    this.#forgetOld();
    return job.copy;
  }

  /** Resolves when nothing of it is left but the whole copy, if it had ended already. */
  async stop(copyId: string): Promise<void> {
    const job = this.#require(copyId);
    job.stop.abort(new TidemarkError("CANCELLED", "The copy was stopped."));
    await job.ended;
  }

  async close(): Promise<void> {
    for (const copyId of this.#jobs.keys()) await this.stop(copyId);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #run(job: Job, point: OpenedPoint): Promise<void> {
    const { vmId, format, directory, copyId } = job.copy;
    const { signal } = job.stop;
    const socketPath = join(this.#options.socketDirectory, `${copyId.slice(0, 8)}.sock`);
    const onCopied = (bytes: number) => {
      job.copy = { ...job.copy, copiedBytes: job.copy.copiedBytes + bytes };
    };
    try {
      signal.throwIfAborted();
      const request = { point, vmId, format, directory, socketPath, signal, onCopied };
      const disks = await copyPoint(request);
      job.copy = { ...job.copy, disks, state: "done" };
    } catch (thrown) {
      const { code, message } = toTidemarkError(signal.aborted ? signal.reason : thrown);
      job.copy = { ...job.copy, state: "failed", failure: { code, message } };
    } finally {
      point.release();
    }
  }

  #forgetOld(): void {
    const ended = [...this.#jobs.values()].filter(({ copy }) => copy.state !== "running");
    for (const { copy } of ended.slice(0, -REMEMBERED)) this.#jobs.delete(copy.copyId);
  }

  #require(copyId: string): Job {
    const job = this.#jobs.get(copyId);
    if (job !== undefined) return job;
    throw new TidemarkError("NOT_FOUND", `Cannot find copy ${copyId}: because there is none.`);
  }
}

async function requireDirectory(path: string): Promise<void> {
  if (!isAbsolute(path)) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      `Cannot copy to ${path}: because it is not an absolute path.`,
    );
  }
  await new NodeStoreFiles().makeDirectory(path);
}
