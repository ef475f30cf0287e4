import { TidemarkError, toTidemarkError } from "../model/errors.js";
import type { RecoveryPoint } from "../model/replica-endpoint.js";
import { parseUuid } from "../model/uuid.js";
import { type PointManifest, RETENTION_DOCUMENT, type RetentionOverrides } from "./documents.js";
import { readDocument, writeDocument } from "./durable-document.js";
import { giveUpPoints, whyKept } from "./give-up-points.js";
import { mergeIntoBase } from "./merge-into-base.js";
import { mergePointLayers } from "./merge-point-layers.js";
import type { ReplicaTools } from "./replica-tools.js";
import { rewriteManifest, settleManifests } from "./rewrite-manifest.js";
import type { MergeOptions } from "./run-merge.js";
import type { VmReplica } from "./vm-replica.js";

const LONGEST_LABEL = 255;

/** A recovery point as the replica's administrator sees it. */
export interface KeptPoint {
  readonly point: RecoveryPoint;
  readonly label: string | null;
  readonly isPinned: boolean;
  /** Something reads it, or writes on top of it. */
  readonly isOpen: boolean;
  /** In layers of its own; what is in the base is not counted. */
  readonly storedBytes: number;
  /** What its age is reckoned from: chain-clock.ts. */
  readonly chainTimeMs: number;
}

export interface PointEdit {
  readonly label?: string | null | undefined;
  readonly isPinned?: boolean | undefined;
}

/** Which recovery points of a store are kept, and the room that the others leave. */
export class PointRetention {
  readonly #tools: ReplicaTools;
  readonly #find: (vmId: string) => VmReplica;

  constructor(tools: ReplicaTools, find: (vmId: string) => VmReplica) {
    this.#tools = tools;
    this.#find = find;
  }

  /** Oldest first. */
  async list(vmId: string): Promise<readonly KeptPoint[]> {
    return keptPoints(this.#find(vmId));
  }

  /** Base, layers, and nothing else. */
  async storedBytes(vmId: string): Promise<number> {
    return this.#find(vmId).storedBytes();
  }

  /**
   * Gives up those that are chosen; the newest, pinned and opened points stay, whatever is
   * chosen. Durable, and quick: their room is free after merge(). Answers how many went.
   */
  async giveUp(
    vmId: string,
    choose: (points: readonly KeptPoint[]) => ReadonlySet<string>,
  ): Promise<number> {
    return this.#change(vmId, async (replica) => {
      const before = replica.chain.pointCount;
      const chosen = choose(keptPoints(replica));
      if (chosen.size > 0) await giveUpPoints(this.#tools, replica, chosen);
      return before - replica.chain.pointCount;
    });
  }

  /** NOT_FOUND; CONFLICT for the newest and for a pinned point; IN_USE for an opened one. */
  async delete(vmId: string, pointId: string): Promise<void> {
    await this.#change(vmId, async (replica) => {
      const manifest = requirePoint(replica, pointId);
      const why = whyKept(replica, manifest);
      if (why !== null) throw keptBecause(manifest, why);
      await giveUpPoints(this.#tools, replica, new Set([manifest.point.pointId]));
    });
  }

  /** Durable when it resolves. A label says what the point is; only a pin keeps it. */
  async edit(vmId: string, pointId: string, { label, isPinned }: PointEdit): Promise<KeptPoint> {
    return this.#change(vmId, async (replica) => {
      replica.refuseIfDamaged();
      await settleManifests(this.#tools.files, replica);
      const manifest = requirePoint(replica, pointId);
      const edited = {
        ...manifest,
        label: label === undefined ? manifest.label : checkLabel(label),
        isPinned: isPinned ?? manifest.isPinned,
      };
      await rewriteManifest(this.#tools.files, replica, edited);
      return keptPoint(replica, edited);
    });
  }

  /**
   * Makes one layer, or the base, of what points given up have left; commits go on meanwhile.
   * Answers whether it is done: what a failover lies on stays as it is.
   */
  async merge(vmId: string, options: MergeOptions = {}): Promise<boolean> {
    const replica = this.#find(vmId);
    try {
      return await replica.compacting.run(async () => {
        this.#find(vmId);
        const isBaseDone = await mergeIntoBase(this.#tools, replica, options);
        return (await mergePointLayers(this.#tools, replica, options)) && isBaseDone;
      });
    } catch (thrown) {
      throw toTidemarkError(thrown);
    }
  }

  /** The VM's own settings; empty: the host's hold. */
  async overrides(vmId: string): Promise<RetentionOverrides> {
    const { paths, document } = this.#find(vmId);
    if ((await this.#tools.files.size(paths.retentionFile)) === null) return {};
    const { vmId: foundVmId, ...overrides } = await readDocument(
      this.#tools.files,
      RETENTION_DOCUMENT,
      paths.retentionFile,
    );
    if (foundVmId === document.vm.vmId) return overrides;
    throw new TidemarkError(
      "FOREIGN",
      `Cannot use ${paths.retentionFile}: because it belongs to VM ${foundVmId}.`,
    );
  }

  /** Durable when it resolves. */
  async override(vmId: string, overrides: RetentionOverrides): Promise<void> {
    await this.#change(vmId, async ({ paths, document }) => {
      const body = { ...overrides, vmId: document.vm.vmId };
      await writeDocument(this.#tools.files, RETENTION_DOCUMENT, paths.retentionFile, body);
    });
  }

  async #change<T>(vmId: string, task: (replica: VmReplica) => Promise<T>): Promise<T> {
    const replica = this.#find(vmId);
    try {
      return await replica.lock.run(() => {
        // It may have been deleted while this waited.
        this.#find(vmId);
        return task(replica);
      });
    } catch (thrown) {
      throw toTidemarkError(thrown);
    }
  }
}

function keptPoints(replica: VmReplica): readonly KeptPoint[] {
  return replica.chain.shown().map((manifest) => keptPoint(replica, manifest));
}

function keptPoint({ chain, pins }: VmReplica, manifest: PointManifest): KeptPoint {
  const { point, label, isPinned, chainTimeMs, disks } = manifest;
  const isInBase = point.sequence <= chain.base.sequence;
  const layers = isInBase ? [] : disks.flatMap((disk) => disk.layers);
  return {
    point,
    label,
    isPinned,
    isOpen: pins.isHeld(point.pointId),
    storedBytes: layers.reduce((sum, layer) => sum + layer.dataBytes, 0),
    chainTimeMs,
  };
}

function requirePoint({ chain }: VmReplica, pointId: string): PointManifest {
  const manifest = chain.find(parseUuid(pointId, "recovery point id"));
  if (manifest !== null) return manifest;
  throw new TidemarkError(
    "NOT_FOUND",
    `Cannot find recovery point ${pointId}: because the VM has none of that id.`,
    { hint: "`tidemark vm points VM` lists them." },
  );
}

function keptBecause({ point }: PointManifest, why: string): TidemarkError {
  const hint = {
    "it is the newest": "Replication builds on it; delete it when a newer one is there.",
    "it is pinned": "Unpin it first: `tidemark point unpin VM POINT`.",
    "it is open": "Close what has it open: `tidemark vm status VM` lists that.",
  }[why];
  return new TidemarkError(
    why === "it is open" ? "IN_USE" : "CONFLICT",
    `Cannot delete recovery point ${point.sequence}: because ${why}.`,
    hint === undefined ? {} : { hint },
  );
}

function checkLabel(label: string | null): string | null {
  const isGood =
    label === null || (label.length > 0 && label.length <= LONGEST_LABEL && !/\p{Cc}/u.test(label));
  if (isGood) return label;
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot use the label: because it is not 1 to ${LONGEST_LABEL} printable characters.`,
  );
}
