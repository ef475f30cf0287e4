import { TidemarkError } from "../model/errors.js";
import type { RecoveryPoint } from "../model/replica-endpoint.js";
import type { BaseDocument, PointManifest } from "./documents.js";

/**
 * The recovery points of a VM in order, on top of what the base files hold.
 *
 * Held: the manifests from the base's own point on, without a gap, each the
 * child of the one before. While a merge into the base is under way the points
 * before its target are given up, but their layers are still needed, so they
 * are held and not shown. Finding a point by id is a scan: it is rare, and the
 * head and its parent are at the end, where the scan begins.
 */
export class PointChain {
  readonly #manifests: PointManifest[] = [];
  #base: BaseDocument;
  #damage: TidemarkError | null = null;

  constructor(base: BaseDocument) {
    this.#base = base;
  }

  get base(): BaseDocument {
    return this.#base;
  }

  /** Why the chain ends before its end on disk; null when it does not. */
  get damage(): TidemarkError | null {
    return this.#damage;
  }

  /** The first damage is what is reported; nothing is appended after it. */
  markDamaged(damage: TidemarkError): void {
    this.#damage ??= damage;
  }

  head(): PointManifest | null {
    return this.shown().at(-1) ?? null;
  }

  points(): readonly RecoveryPoint[] {
    return this.shown().map((manifest) => manifest.point);
  }

  shown(): readonly PointManifest[] {
    const first = this.#base.mergingSequence ?? this.#base.sequence;
    return this.#manifests.filter((manifest) => manifest.point.sequence >= first);
  }

  get pointCount(): number {
    return this.shown().length;
  }

  find(pointId: string): PointManifest | null {
    return this.shown().findLast((manifest) => manifest.point.pointId === pointId) ?? null;
  }

  /** The manifests whose layers lie between the base and the point, oldest first. */
  aboveBase(sequence: number): readonly PointManifest[] {
    return this.#manifests.filter(
      ({ point }) => point.sequence > this.#base.sequence && point.sequence <= sequence,
    );
  }

  /** Names of the layer files that manifests above the base list. */
  layerFileNames(): ReadonlySet<string> {
    const names = new Set<string>();
    for (const manifest of this.aboveBase(Number.MAX_SAFE_INTEGER)) {
      for (const disk of manifest.disks) for (const layer of disk.layers) names.add(layer.fileName);
    }
    return names;
  }

  /** Checks that the manifest follows; CORRUPT otherwise. */
  append(manifest: PointManifest): void {
    const { sequence, pointId, parentPointId } = manifest.point;
    const last = this.#manifests.at(-1)?.point;
    const first = Math.max(1, this.#base.sequence);
    const expectedSequence = last === undefined ? first : last.sequence + 1;
    if (sequence !== expectedSequence) {
      throw broken(`recovery point ${expectedSequence} is missing before point ${sequence}`);
    }
    if (last === undefined && sequence === this.#base.sequence) {
      if (pointId !== this.#base.pointId) throw broken(`point ${sequence} is not that of the base`);
    } else if (parentPointId !== (last?.pointId ?? null)) {
      throw broken(`point ${sequence} is not the child of the point before it`);
    }
    this.#manifests.push(manifest);
  }

  replaceHead(manifest: PointManifest): void {
    this.#manifests[this.#manifests.length - 1] = manifest;
  }

  /** A merge begins or has ended: what lies below the base's own point is forgotten. */
  moveBase(base: BaseDocument): void {
    this.#base = base;
    const kept = this.#manifests.filter(({ point }) => point.sequence >= base.sequence);
    this.#manifests.splice(0, this.#manifests.length, ...kept);
  }
}

function broken(reason: string): TidemarkError {
  return new TidemarkError("CORRUPT", `Cannot follow the recovery points: because ${reason}.`, {
    hint: "Check the storage; the points before it can be exported.",
  });
}
