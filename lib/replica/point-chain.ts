import { TidemarkError } from "../model/errors.js";
import type { RecoveryPoint } from "../model/replica-endpoint.js";
import type { BaseDocument, PointManifest, PointPlace } from "./documents.js";

/**
 * The recovery points of a VM in order, on top of what the base files hold.
 *
 * Held: the manifests from the base's own point on, without a gap, each the
 * child of the one before; one that took over the layers of points before it
 * that were given up stands for them. Points before the one that the base is to
 * hold next are given up too, but their layers are still needed, so they are
 * held and not shown. Finding a point by id is a scan: it is rare, and the
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

  at(sequence: number): PointManifest | null {
    return this.#manifests.find(({ point }) => point.sequence === sequence) ?? null;
  }

  find(pointId: string): PointManifest | null {
    return this.shown().findLast((manifest) => manifest.point.pointId === pointId) ?? null;
  }

  /** Of the point that the base holds; null while it holds none. */
  get baseManifest(): PointManifest | null {
    return this.#manifests.find(({ point }) => point.sequence === this.#base.sequence) ?? null;
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
    const { sequence, pointId } = manifest.point;
    const last = this.#manifests.at(-1)?.point;
    const { base } = this;
    if (last === undefined && base.sequence > 0) {
      // Its own layers are in the base, and what it took over with them.
      if (sequence !== base.sequence) throw missing(base.sequence, sequence);
      if (pointId !== base.pointId) throw broken(`point ${sequence} is not that of the base`);
    } else {
      const first = placeOf(manifest);
      const expectedSequence = (last?.sequence ?? 0) + 1;
      if (first.sequence !== expectedSequence) throw missing(expectedSequence, sequence);
      if (first.parentPointId !== (last?.pointId ?? null)) {
        throw broken(`point ${sequence} is not the child of the point before it`);
      }
    }
    this.#manifests.push(manifest);
  }

  /** In the place of the one of that point and of those whose place it takes. */
  replace(manifest: PointManifest): void {
    const from = placeOf(manifest).sequence;
    const { sequence } = manifest.point;
    const isReplaced = ({ point }: PointManifest) =>
      point.sequence >= from && point.sequence <= sequence;
    const first = this.#manifests.findIndex(isReplaced);
    this.#manifests.splice(first, this.#manifests.filter(isReplaced).length, manifest);
  }

  /** A merge begins or has ended: what lies below the base's own point is forgotten. */
  moveBase(base: BaseDocument): void {
    this.#base = base;
    const kept = this.#manifests.filter(({ point }) => point.sequence >= base.sequence);
    this.#manifests.splice(0, this.#manifests.length, ...kept);
  }
}

/** Where the manifest's layers begin. */
export function placeOf(manifest: PointManifest): PointPlace {
  const { sequence, parentPointId } = manifest.since ?? manifest.point;
  return { sequence, parentPointId };
}

function missing(expected: number, found: number): TidemarkError {
  return broken(`recovery point ${expected} is missing before point ${found}`);
}

function broken(reason: string): TidemarkError {
  return new TidemarkError("CORRUPT", `Cannot follow the recovery points: because ${reason}.`, {
    hint: "Check the storage; the points before it can be exported.",
  });
}
