/** A VM in memory whose first copy goes over a medium on disk to a real replica store. */
import { generateKeyPairSync } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Test } from "tap";
import { createMedium, type CreatedMedium } from "#lib/media/create-medium.js";
import { importMedium } from "#lib/media/import-medium.js";
import { InlineMediumSegments } from "#lib/media/medium-segments.js";
import { MediumWriter } from "#lib/media/medium-writer.js";
import type { DiskGeometry } from "#lib/model/disk.js";
import type { ImportTarget, MediaOpener, WritableMedium } from "#lib/model/initial-media.js";
import { MemoryStateStore } from "#lib/model/memory-state-store.js";
import { cutTogetherInMemory } from "#lib/model/memory-cut-together.js";
import { MemoryVmTracker } from "#lib/model/memory-tracker.js";
import type { FirstCopy, RelationshipRecord } from "#lib/model/relationship.js";
import type { NewRelationshipSettings } from "#lib/model/relationship-settings.js";
import type { ReplicaEndpoint } from "#lib/model/replica-endpoint.js";
import type { StateStore } from "#lib/model/state-store.js";
import type { VmTracker } from "#lib/model/vm-tracker.js";
import { ReplicaStore } from "#lib/replica/replica-store.js";
import { openSegmentSink } from "#lib/replica/segment-sink.js";
import { ReplicationEngine } from "#lib/replication/replication-engine.js";
import { systemClock } from "#lib/replication/system-clock.js";
import { binding } from "#lib/tracking/binding.js";
import { SegmentDecoder } from "#lib/tracking/segment-decoder.js";
import { encodeContents } from "../contracts/segment-bytes.js";
import { override } from "../replication/override.js";
import { readDisk } from "../replica/support/scene.js";
import { until } from "../support/until.js";

export const BLOCK = 4096;
/** A passphrase costs each opening what it is to cost who guesses. */
const RECIPIENT = generateKeyPairSync("x25519", {
  publicKeyEncoding: { type: "spki", format: "pem" },
  privateKeyEncoding: { type: "pkcs8", format: "pem" },
});
const OPENER: MediaOpener = { privatePem: RECIPIENT.privateKey };

export const DISKS: readonly DiskGeometry[] = [
  {
    diskId: "33333333-3333-4333-8333-333333333333",
    name: "vda",
    sizeBytes: 24 * BLOCK,
    granularityBytes: BLOCK,
  },
  {
    diskId: "44444444-4444-4444-8444-444444444444",
    name: "vdb",
    sizeBytes: 6 * BLOCK + 512,
    granularityBytes: BLOCK,
  },
];

export const SETTINGS: NewRelationshipSettings = {
  vmId: "11111111-1111-4111-8111-111111111111",
  targetId: "22222222-2222-4222-8222-222222222222",
  replicaUrl: "https://replica.example.com:4443",
  intervalMs: 100,
  compression: 1,
};

const LIMITS = {
  passBytes: 4 * BLOCK,
  closingBytes: 2 * BLOCK,
  importPollMs: 5,
  retryBaseMs: 1,
  retryMaxMs: 5,
  errorRetryMs: 5,
};
const PATIENCE_MS = 30_000;

/** Knows what is under way: a process that died writes nothing any more. */
class QuietSegments extends InlineMediumSegments {
  readonly #underWay = new Set<Promise<unknown>>();

  override write(...args: Parameters<InlineMediumSegments["write"]>) {
    return this.#watch(super.write(...args));
  }

  override read(...args: Parameters<InlineMediumSegments["read"]>) {
    return this.#watch(super.read(...args));
  }

  async quiet(): Promise<void> {
    await Promise.allSettled(this.#underWay);
  }

  #watch<T>(work: Promise<T>): Promise<T> {
    this.#underWay.add(work);
    return work;
  }
}

/** What the process dies in the middle of; called before and after each step that it takes. */
export type Interruption = (step: string) => Promise<void>;

export class MediumScene {
  readonly directory: string;
  readonly tracker: MemoryVmTracker;
  readonly store = new MemoryStateStore();
  readonly segments = new QuietSegments({
    newReader: () => new SegmentDecoder(),
    openSink: openSegmentSink,
  });
  readonly interruption: { next: Interruption | null } = { next: null };
  replica!: ReplicaStore;
  medium!: CreatedMedium;
  engine!: ReplicationEngine;
  #life = { isDead: false };
  #writeCount = 0;

  private constructor(directory: string) {
    this.directory = directory;
    this.tracker = new MemoryVmTracker({
      disks: DISKS,
      encode: encodeContents,
      contents: DISKS.map(({ sizeBytes }, index) => Buffer.alloc(sizeBytes, 0x41 + index)),
    });
  }

  static async make(t: Test): Promise<MediumScene> {
    const directory = await mkdtemp(join(tmpdir(), "tidemark-medium-"));
    const scene = new MediumScene(directory);
    scene.medium = await createMedium(directory, "guest", {
      kind: "recipient",
      publicPem: RECIPIENT.publicKey,
    });
    await scene.openReplica();
    scene.#startEngine();
    t.teardown(async () => {
      scene.#life.isDead = true;
      await scene.replica.close();
      await rm(directory, { recursive: true, force: true });
    });
    return scene;
  }

  get firstCopy(): FirstCopy {
    const { mediaId, directory } = this.medium;
    return { by: "medium", mediaId, directory, stage: "writing" };
  }

  get replicaRoot(): string {
    return join(this.directory, "replica");
  }

  async openReplica(): Promise<void> {
    await this.segments.quiet();
    this.replica = await ReplicaStore.open({
      root: this.replicaRoot,
      native: binding,
      openSink: openSegmentSink,
    });
  }

  /** A guest's write that nothing else looks like. */
  write(): void {
    this.#writeCount += 1;
    const block = (this.#writeCount * 7) % 24;
    this.tracker.write(0, block * BLOCK, Buffer.alloc(BLOCK, this.#writeCount % 251));
    if (this.#writeCount % 5 === 0) this.tracker.write(1, 6 * BLOCK, Buffer.from("the short end"));
  }

  status() {
    return this.engine.status(SETTINGS.vmId);
  }

  async record(): Promise<RelationshipRecord> {
    const [document] = await this.store.list("relationships/");
    return document?.value as RelationshipRecord;
  }

  async written(): Promise<void> {
    await until("the medium to be written", PATIENCE_MS, async () => {
      const { firstCopy } = await this.status();
      return firstCopy?.waitsFor === "import" ? true : null;
    });
  }

  import(target: ImportTarget = this.replica, opener = OPENER) {
    const signal = new AbortController().signal;
    const parts = { target, segments: this.segments, signal };
    return importMedium(parts, this.medium.directory, opener);
  }

  /** A cycle that began after now has ended, and the replica's head equals the disks. */
  async equal(): Promise<boolean> {
    const before = (await this.status()).cycleCount;
    await until("two cycles", PATIENCE_MS, async () => {
      const { cycleCount, state } = await this.status();
      return state === "replicating" && cycleCount >= before + 2 ? true : null;
    });
    const { head } = await this.replica.status(SETTINGS.vmId);
    for (const index of DISKS.keys()) {
      const content = await readDisk(
        this.replica,
        binding,
        SETTINGS.vmId,
        head?.pointId ?? "",
        index,
      );
      if (!content.equals(this.tracker.contentOf(index))) return false;
    }
    return true;
  }

  /** The primary's process died, and comes back. */
  async crash(): Promise<void> {
    this.#life.isDead = true;
    await this.segments.quiet();
    this.tracker.crash();
    this.#startEngine();
    await this.engine.start();
  }

  /** Whichever is open, which stays the scene's to close. */
  #presentReplica(): ReplicaEndpoint {
    return new Proxy<ReplicaEndpoint>(this.replica, {
      get: (_target, key) => {
        if (key === Symbol.asyncDispose) return undefined;
        const value: unknown = Reflect.get(this.replica, key, this.replica);
        return typeof value === "function" ? value.bind(this.replica) : value;
      },
    });
  }

  #startEngine(): void {
    const life = { isDead: false };
    this.#life = life;
    const stepped = <T extends object>(inner: T, kind: string): T =>
      interrupted(
        override(inner, {}, () => life.isDead),
        kind,
        this.interruption,
      );
    this.engine = new ReplicationEngine({
      store: stepped<StateStore>(this.store, "store"),
      clock: systemClock,
      limits: LIMITS,
      cutTogether: cutTogetherInMemory,
      openVm: async () => ({ name: "guest", tracker: stepped<VmTracker>(this.tracker, "tracker") }),
      openReplica: () => override<ReplicaEndpoint>(this.#presentReplica(), {}, () => life.isDead),
      openMedium: async () => {
        const medium = await MediumWriter.open({
          ...this.medium,
          segments: this.segments,
          compressionLevel: 1,
        });
        return stepped<WritableMedium>(medium, "medium");
      },
    });
  }
}

/** The methods tell when they begin and when they have ended. */
function interrupted<T extends object>(
  inner: T,
  kind: string,
  interruption: { next: Interruption | null },
): T {
  return new Proxy(inner, {
    get(target, key) {
      const value: unknown = Reflect.get(target, key, target);
      if (typeof value !== "function" || typeof key !== "string") return value;
      return (...args: unknown[]): unknown => {
        const answer: unknown = Reflect.apply(value, target, args);
        if (!(answer instanceof Promise)) return answer;
        return answer.then(async (result: unknown) => {
          await interruption.next?.(`${kind}.${key}`);
          return result;
        });
      };
    },
  });
}
