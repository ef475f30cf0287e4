/** The first copy by medium: guest writing, processes dying, media damaged. */
import { cp, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import t from "tap";
import { toTidemarkError } from "#lib/model/errors.js";
import type { ImportTarget } from "#lib/model/initial-media.js";
import { until } from "../support/until.js";
import { override } from "../replication/override.js";
import { DISKS, MediumScene, SETTINGS } from "./medium-scene.js";

const VM_ID = SETTINGS.vmId;

async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => "done",
    (thrown: unknown) => toTidemarkError(thrown).code,
  );
}

/** A scene whose medium is written and waits. */
async function writtenScene(t: Parameters<typeof MediumScene.make>[0]): Promise<MediumScene> {
  const scene = await MediumScene.make(t);
  await scene.engine.enable(SETTINGS, 0, scene.firstCopy);
  await scene.written();
  await until("the VM at the replica", 30_000, () => scene.replica.status(VM_ID).catch(() => null));
  return scene;
}

void t.test("a first copy by medium, with a guest that writes all the while", async (t) => {
  const scene = await MediumScene.make(t);
  const writing = setInterval(() => scene.write(), 1);
  t.teardown(() => clearInterval(writing));
  await scene.engine.enable(SETTINGS, 0, scene.firstCopy);
  await scene.written();
  t.match(await scene.status(), {
    state: "initial-replication",
    headPointId: null,
    firstCopy: { by: "medium", waitsFor: "import", directory: scene.medium.directory },
  });
  const placeholder = await until("the VM at the replica", 30_000, () =>
    scene.replica.status(VM_ID).catch(() => null),
  );
  t.equal(placeholder.head, null, "the replica knows the VM and has no point of it");
  t.ok((await scene.tracker.progress(SETTINGS.targetId)).stagedBytes > 0, "bits stay marked");
  const { point } = await scene.import();
  t.equal((await scene.record()).inDoubt?.deltaId ?? point.pointId, point.pointId);
  clearInterval(writing);
  t.ok(await scene.equal(), "after the next cycles nothing is missing");
  const points = await scene.replica.points(VM_ID);
  t.equal(points[0]?.pointId, point.pointId, "the medium's point is the VM's first");
  t.equal((await scene.status()).firstCopy, null);
  t.equal((await scene.record()).firstCopy, undefined);
});

void t.test(
  "T35: an export whose process dies at any step goes on, and keeps what is whole",
  async (t) => {
    const scene = await MediumScene.make(t);
    const kept = new Map<string, number>();
    let [deaths, stepsTaken, lostFiles] = [0, 0, 0];
    const lives = [15, 3, 19, 9, 4, 13];
    scene.interruption.next = async (step) => {
      stepsTaken += 1;
      if (
        step === "tracker.progress" ||
        deaths >= 40 ||
        stepsTaken < (lives[deaths % lives.length] ?? 3)
      )
        return;
      stepsTaken = 0;
      deaths += 1;
      scene.write();
      void scene.crash();
      await new Promise(() => {});
    };
    await scene.engine.enable(SETTINGS, 0, scene.firstCopy).catch(() => undefined);
    for (let looks = 0; looks < 2000; looks += 1) {
      lostFiles += await lostOf(scene.medium.directory, kept);
      if ((await scene.record())?.firstCopy?.by === "medium" && (await isWritten(scene))) break;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await scene.written();
    t.ok(deaths >= 6, `${deaths} deaths`);
    t.equal(lostFiles, 0, "no delta that was whole was written again");
    scene.interruption.next = null;
    await scene.import();
    t.ok(await scene.equal());
  },
);

async function isWritten(scene: MediumScene): Promise<boolean> {
  const { firstCopy } = await scene.record();
  return firstCopy?.by === "medium" && firstCopy.stage === "written";
}

/** How many of the deltas that were whole before are others by now. */
async function lostOf(directory: string, kept: Map<string, number>): Promise<number> {
  let lost = 0;
  for (const name of await readdir(directory)) {
    if (!name.startsWith("delta-")) continue;
    const found = await stat(join(directory, name, "delta")).catch(() => null);
    if (found === null) continue;
    if (kept.has(name) && kept.get(name) !== found.ino) lost += 1;
    kept.set(name, found.ino);
  }
  return lost;
}

void t.test("T25 T35: an import that dies at any step is repeated to its end", async (t) => {
  const scene = await writtenScene(t);
  for (let deadly = 1; ; deadly += 1) {
    let [steps, segmentsRead] = [0, 0];
    const life = { isDead: false };
    const dying = new Proxy(
      override<ImportTarget>(scene.replica, {}, () => life.isDead),
      {
        get(target, key) {
          const value: unknown = Reflect.get(target, key, target);
          if (typeof value !== "function") return value;
          return async (...args: unknown[]): Promise<unknown> => {
            const answer: unknown = await Reflect.apply(value, target, args);
            steps += 1;
            if (key === "reserveSegment") segmentsRead += 1;
            if (steps >= deadly) life.isDead = true;
            return life.isDead ? new Promise(() => {}) : answer;
          };
        },
      },
    );
    const outcome = await Promise.race([scene.import(dying).then(() => "done"), death(life)]);
    life.isDead = true;
    await scene.replica.close();
    await scene.openReplica();
    const { head } = await scene.replica.status(VM_ID).catch(() => ({ head: null }));
    if (outcome === "done" || head !== null) {
      t.comment(`${deadly} steps, ${segmentsRead} segments in the last try`);
      t.ok(deadly > 10);
      break;
    }
    t.equal((await scene.replica.points(VM_ID).catch(() => [])).length, 0, "nothing counts yet");
  }
  t.ok(await scene.equal());
});

async function death(life: { readonly isDead: boolean }): Promise<"dead"> {
  while (!life.isDead) await new Promise((resolve) => setTimeout(resolve, 1));
  return "dead";
}

void t.test("an import that goes on does not read again what is there", async (t) => {
  const scene = await writtenScene(t);
  let reads = 0;
  const failing = override<ImportTarget>(scene.replica, {
    reserveSegment: async (request) => {
      reads += 1;
      if (reads > 3) throw new Error("cut off");
      return scene.replica.reserveSegment(request);
    },
  });
  t.equal(await codeOf(scene.import(failing)), "INTERNAL");
  reads = -1000;
  await scene.import(failing);
  const total = (await readdir(scene.medium.directory, { recursive: true })).filter((name) =>
    name.includes("segment-"),
  ).length;
  t.ok(total > 5, `${total} segments`);
  t.equal(reads + 1000, total - 3);
});

void t.test(
  "T24 T29: a medium that is damaged in any way is refused, and nothing is changed",
  async (t) => {
    const scene = await writtenScene(t);
    await scene.engine.close();
    const { directory } = scene.medium;
    const whole = join(scene.directory, "whole");
    await cp(directory, whole, { recursive: true });
    const before = JSON.stringify(await scene.replica.status(VM_ID));
    const files = (await readdir(directory, { recursive: true })).filter((name) =>
      /media\.json|manifest|segment-/.test(name),
    );
    t.ok(files.length >= 6, files.join(" "));
    for (const file of files) {
      for (const [what, damage] of DEEDS) {
        if (file === "media.json" && what === "goes on behind its end") continue;
        await damage(join(directory, file));
        const code = await codeOf(scene.import());
        t.match(
          code,
          /^(CORRUPT|TRUNCATED|NOT_FOUND|FOREIGN|FORBIDDEN)$/,
          `${file} ${what}: ${code}`,
        );
        t.equal(JSON.stringify(await scene.replica.status(VM_ID)), before, "nothing changed");
        await cp(join(whole, file), join(directory, file));
      }
    }
    const [first = "", second = ""] = files.filter((name) => name.includes("segment-"));
    await rename(join(directory, first), join(directory, "aside"));
    await rename(join(directory, second), join(directory, first));
    await rename(join(directory, "aside"), join(directory, second));
    t.match(
      await codeOf(scene.import()),
      /^(CORRUPT|TRUNCATED)$/,
      "two files in each other's place",
    );
    for (const file of [first, second]) await cp(join(whole, file), join(directory, file));
    t.equal(await codeOf(scene.import()), "done", "the whole one is taken");
  },
);

const DEEDS: readonly (readonly [string, (path: string) => Promise<void>])[] = [
  ["is missing", (path) => rm(path)],
  ["is cut", async (path) => writeFile(path, (await readFile(path)).subarray(0, -7))],
  ["is empty", (path) => writeFile(path, "")],
  ["has a flipped bit", flipBit],
  [
    "goes on behind its end",
    async (path) => writeFile(path, Buffer.concat([await readFile(path), Buffer.alloc(9)])),
  ],
];

async function flipBit(path: string): Promise<void> {
  const bytes = await readFile(path);
  const at = bytes.length >> 1;
  bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
  await writeFile(path, bytes);
}

void t.test("what cannot be imported is refused, and nothing is changed", async (t) => {
  const scene = await writtenScene(t);
  t.equal(await codeOf(scene.import(scene.replica, {})), "FORBIDDEN");
  t.equal((await scene.replica.status(VM_ID)).stagingSessionId, null);
  const manifest = join(scene.medium.directory, "manifest");
  await rename(manifest, `${manifest}.aside`);
  t.equal(await codeOf(scene.import()), "TRUNCATED", "an export that has not ended");
  await rename(`${manifest}.aside`, manifest);
  const otherMedium = await writtenScene(t);
  await cp(join(otherMedium.medium.directory, "manifest"), manifest);
  t.match(await codeOf(scene.import()), /^(CORRUPT)$/, "another medium's manifest");
  t.equal(await codeOf(otherMedium.import()), "done");
  t.equal(await codeOf(otherMedium.import()), "ALREADY_EXISTS", "twice");
  t.ok(await otherMedium.equal());
  t.equal(await codeOf(otherMedium.import()), "ALREADY_EXISTS", "after later points");
});

void t.test("a medium of a lineage that has gone on is refused", async (t) => {
  const scene = await writtenScene(t);
  await scene.engine.close();
  await scene.replica.close();
  await rm(scene.replicaRoot, { recursive: true });
  await scene.openReplica();
  const generation = { number: 2, id: "99999999-9999-4999-8999-999999999999" };
  await scene.replica.enable({ vmId: VM_ID, name: "guest", disks: DISKS }, generation);
  t.equal(await codeOf(scene.import()), "FENCED");
  t.equal((await scene.replica.status(VM_ID)).stagingSessionId, null);
});

void t.test(
  "a medium that is not in its place is waited for, and one that is given up costs a copy",
  async (t) => {
    const scene = await writtenScene(t);
    scene.write();
    await scene.engine.setFirstCopy(VM_ID, null);
    t.ok(await scene.equal(), "over the network");
    t.equal(await codeOf(scene.engine.setFirstCopy(VM_ID, scene.firstCopy)), "CONFLICT");
    t.equal(await codeOf(scene.import()), "ALREADY_EXISTS");
  },
);

void t.test(
  "another medium in its place is an error, and the first one is gone on with",
  async (t) => {
    const scene = await MediumScene.make(t);
    const { directory } = scene.medium;
    await rename(directory, `${directory}.aside`);
    await scene.engine.enable(SETTINGS, 0, scene.firstCopy);
    for (;;) {
      const { lastError } = await scene.status();
      if (lastError?.code === "NOT_FOUND") break;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await rename(`${directory}.aside`, directory);
    await scene.written();
    await scene.import();
    t.ok(await scene.equal());
  },
);
