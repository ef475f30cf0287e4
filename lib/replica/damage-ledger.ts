/**
 * What verifications have found of a VM and nothing has overwritten since, durably.
 * Damage is never forgotten by itself: a verification that looks at the file again
 * finds it whole, a merge writes newer content over it, or its file is not needed any
 * more.
 */
import { basename } from "node:path";
import { type ExtentList, lengthOf, MAX_HASH_EXTENTS } from "../model/block-hashes.js";
import { toTidemarkError } from "../model/errors.js";
import { subtract, unionOf } from "../model/extent-list.js";
import type { DiskDamage } from "../model/replica-endpoint.js";
import type { Damage, VerificationReport } from "../model/verification.js";
import {
  type PointManifest,
  VERIFICATION_DOCUMENT,
  type VerificationDocument,
} from "./documents.js";
import { readDocument, writeDocument } from "./durable-document.js";
import { layerExtents } from "./layer-extents.js";
import type { ReplicaTools } from "./replica-tools.js";
import type { PointChain } from "./point-chain.js";
import type { VmPaths } from "./store-paths.js";

/** The part of a VmReplica that its ledger needs. */
interface LedgerVm {
  readonly document: { readonly vm: { readonly vmId: string } };
  readonly paths: VmPaths;
  readonly chain: PointChain;
}

export class DamageLedger {
  readonly #tools: ReplicaTools;
  readonly #replica: LedgerVm;
  #document: VerificationDocument;
  #followed: { key: string; damage: readonly Damage[]; points: DamagedPoints } | null = null;

  private constructor(tools: ReplicaTools, replica: LedgerVm, document: VerificationDocument) {
    this.#tools = tools;
    this.#replica = replica;
    this.#document = document;
  }

  /** A ledger that cannot be read begins anew: the next verification fills it. */
  static async open(tools: ReplicaTools, replica: LedgerVm): Promise<DamageLedger> {
    const { vmId } = replica.document.vm;
    const path = replica.paths.verificationFile;
    const none = { vmId, last: null, damage: [] };
    const document = await readDocument(tools.files, VERIFICATION_DOCUMENT, path).catch(
      (thrown: unknown) => {
        const { code } = toTidemarkError(thrown);
        if (["NOT_FOUND", "CORRUPT", "FOREIGN", "VERSION_UNKNOWN"].includes(code)) return none;
        throw thrown;
      },
    );
    return new DamageLedger(tools, replica, document);
  }

  get last(): VerificationReport | null {
    return this.#document.last;
  }

  get damage(): readonly Damage[] {
    return this.#document.damage;
  }

  /** Takes the place of what was known of the files that the verification looked at. */
  async take(report: VerificationReport): Promise<void> {
    const looked = report.pointSequence ?? Number.MAX_SAFE_INTEGER;
    const others = this.damage.filter(({ pointSequence }) => pointSequence > looked);
    await this.#write({ last: report, damage: [...others, ...report.damage] });
  }

  /** Before the base takes these points' layers in: what they overwrite is whole again. */
  async moveIntoBase(merged: readonly PointManifest[]): Promise<void> {
    const target = merged.at(-1)?.point.sequence;
    if (this.damage.length === 0 || target === undefined) return;
    const moved: Damage[] = [];
    for (const one of this.damage) {
      const left = one.pointSequence > target ? one : await this.#moved(one, merged, target);
      if (left !== null) moved.push(left);
    }
    await this.#write({ last: this.last, damage: moved });
  }

  async #moved(
    one: Damage,
    merged: readonly PointManifest[],
    target: number,
  ): Promise<Damage | null> {
    if (one.diskId === null) return one.pointSequence < target ? null : one;
    const extents = await this.#uncovered(one, merged);
    return extents.length === 0 ? null : { ...one, kind: "base", pointSequence: target, extents };
  }

  /** What of it the layers of later points leave visible. */
  async #uncovered(one: Damage, manifests: readonly PointManifest[]): Promise<ExtentList> {
    const later = manifests.filter(({ point }) => point.sequence > one.pointSequence);
    return subtract(one.extents, await this.#covered(one, later));
  }

  /**
   * Names of layers that cannot be read, of which nothing is visible at the point any
   * more: what it is made of can do without them.
   */
  async notNeededAt(sequence: number): Promise<ReadonlySet<string>> {
    const names = new Set<string>();
    for (const one of this.damage.filter(({ kind }) => kind === "layer")) {
      const upTo = this.#replica.chain.aboveBase(sequence);
      const left = await this.#uncovered(one, upTo);
      if (lengthOf(left) === 0) names.add(basename(one.file));
    }
    return names;
  }

  /** The points that contain damage, and what of the head is damaged. */
  async damagedPoints(): Promise<DamagedPoints> {
    const { base, pointCount } = this.#replica.chain;
    const head = this.#replica.chain.head()?.point.sequence ?? 0;
    // Of what it is made: each point above the damage costs a look at its layers' indexes.
    const key = [head, pointCount, base.sequence, base.mergingSequence].join();
    if (this.#followed?.key === key && this.#followed.damage === this.damage) {
      return this.#followed.points;
    }
    const points = await this.#followAll();
    this.#followed = { key, damage: this.damage, points };
    return points;
  }

  async #followAll(): Promise<DamagedPoints> {
    const sequences = new Set<number>();
    const atHead = new Map<string, ExtentList>();
    for (const one of this.damage) {
      const left = await this.#follow(one, sequences);
      if (one.diskId === null || left.length === 0) continue;
      atHead.set(one.diskId, unionOf(atHead.get(one.diskId) ?? [], left));
    }
    return { sequences: [...sequences].sort((a, b) => a - b), atHead };
  }

  /** In few enough pieces to be told to a peer. */
  async headDamage(): Promise<readonly DiskDamage[]> {
    if (this.damage.length === 0) return [];
    const { atHead } = await this.damagedPoints();
    return [...atHead].map(([diskId, extents]) => ({ diskId, extents: coarsened(extents) }));
  }

  /** Through the points above it, until nothing of it is visible any more. */
  async #follow(one: Damage, sequences: Set<number>): Promise<ExtentList> {
    let left: ExtentList = one.extents;
    for (const manifest of this.#replica.chain.shown()) {
      const { sequence } = manifest.point;
      if (sequence < one.pointSequence) continue;
      if (one.diskId !== null && sequence > one.pointSequence) {
        left = subtract(left, await this.#covered(one, [manifest]));
        if (lengthOf(left) === 0) return [];
      }
      sequences.add(sequence);
    }
    return left;
  }

  /**
   * A layer that cannot be read covers nothing, and is damage of its own. The damaged layer may
   * have gone on to a later point: of that one only the layers above it count. Of a disk that
   * left nothing older is visible any more, also when it came back.
   */
  async #covered(one: Damage, points: readonly PointManifest[]): Promise<ExtentList> {
    const diskId = one.diskId ?? "";
    const fileName = basename(one.file);
    const hasLeft = points.some(({ disks }) => {
      const disk = disks.find((of) => of.diskId === diskId);
      const isTakenOver = disk?.layers.some((layer) => layer.fileName === fileName) === true;
      return disk === undefined || (disk.begins === true && !isTakenOver);
    });
    if (hasLeft) return [0, Number.MAX_SAFE_INTEGER];
    const manifests = points.map((point) => onlyAbove(point, fileName));
    const unreadable = this.damage.filter(({ kind }) => kind === "layer");
    const leftOut = new Set(unreadable.map(({ file }) => basename(file)));
    return layerExtents(this.#tools.native, this.#replica.paths, diskId, manifests, leftOut);
  }

  /** Layers that were merged: of what was damaged in them nothing was visible, or it was refused. */
  async forget(fileNames: ReadonlySet<string>): Promise<void> {
    const damage = this.damage.filter(({ file }) => !fileNames.has(basename(file)));
    if (damage.length < this.damage.length) await this.#write({ last: this.last, damage });
  }

  async #write(parts: Omit<VerificationDocument, "vmId">): Promise<void> {
    const document = { vmId: this.#document.vmId, ...parts };
    const path = this.#replica.paths.verificationFile;
    await writeDocument(this.#tools.files, VERIFICATION_DOCUMENT, path, document);
    this.#document = document;
  }
}

function onlyAbove(manifest: PointManifest, fileName: string): PointManifest {
  const disks = manifest.disks.map((disk) => {
    const at = disk.layers.findIndex((layer) => layer.fileName === fileName);
    return { ...disk, layers: disk.layers.slice(at + 1) };
  });
  return { ...manifest, disks };
}

/** Joins the last ones into one where there are too many. */
function coarsened(extents: ExtentList): ExtentList {
  if (extents.length <= 2 * MAX_HASH_EXTENTS) return extents;
  const kept = extents.slice(0, 2 * MAX_HASH_EXTENTS - 2);
  const from = extents[kept.length] ?? 0;
  return [...kept, from, (extents.at(-2) ?? 0) + (extents.at(-1) ?? 0) - from];
}

export interface DamagedPoints {
  readonly sequences: readonly number[];
  /** By disk: what a repair has to bring again. */
  readonly atHead: ReadonlyMap<string, ExtentList>;
}
