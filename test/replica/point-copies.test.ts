/** Recovery points as files: whole or not there, and the very bytes. */
import { mkdir, open, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import t, { type Test } from "tap";
import type { PointCopy } from "#lib/model/point-copies.js";
import { PointCopies } from "#lib/replica/point-copies.js";
import { skipWithout, succeeds } from "../support/foreign-tools.js";
import { until } from "../support/until.js";
import { openNativeStore, temporaryDirectory } from "./support/native-scene.js";
import { GRANULARITY, Scene } from "./support/scene.js";
import { keepNewest } from "./support/keep-newest.js";

const LIMIT_MS = 30_000;
/** Sparse: what is written of it lies far apart. */
const SIZE_BYTES = 64 << 20;

async function start(t: Test) {
  const root = await temporaryDirectory(t);
  const { vm } = new Scene();
  const disks = vm.disks.map((disk) => ({ ...disk, sizeBytes: SIZE_BYTES + 512 }));
  const scene = new Scene({ ...vm, disks });
  const store = await openNativeStore(t, root);
  await store.enable(scene.vm, scene.generation);
  const first = await scene.point(store, null, { 0: { 0: 11, 9000: 12 }, 1: { 5: 13 } });
  const second = await scene.point(store, first.pointId, { 0: { 0: 0, 7: 21 } });
  const copies = new PointCopies({ store, socketDirectory: root });
  t.teardown(() => copies.close());
  return { root, scene, store, first, second, copies, out: join(root, "out") };
}

const ended = (copies: PointCopies, { copyId }: PointCopy) =>
  until("the copy's end", LIMIT_MS, () => {
    const copy = copies.find(copyId);
    return copy.state !== "running" && copy;
  });

function expected(blocks: Record<number, number>): Buffer {
  const content = Buffer.alloc(SIZE_BYTES + 512);
  for (const [block, value] of Object.entries(blocks)) {
    content.fill(value, Number(block) * GRANULARITY, (Number(block) + 1) * GRANULARITY);
  }
  return content;
}

void t.test("a raw copy holds the point's bytes and takes no more room than they do", async (t) => {
  const { scene, first, second, copies, out } = await start(t);
  const { vmId } = scene.vm;
  for (const { pointId, blocks } of [
    { pointId: first.pointId, blocks: { 0: 11, 9000: 12 } },
    { pointId: second.pointId, blocks: { 7: 21, 9000: 12 } },
  ]) {
    const started = await copies.start({ vmId, pointId, format: "raw", parentDirectory: out });
    const copy = await ended(copies, started);
    t.same([copy.state, copy.failure], ["done", null]);
    t.equal(copy.copiedBytes, copy.totalBytes);
    const [vda, vdb] = copy.disks.map(({ file }) => join(copy.directory, file));
    t.ok((await readFile(vda ?? "")).equals(expected(blocks)), "vda");
    t.ok((await readFile(vdb ?? "")).equals(expected({ 5: 13 })), "vdb");
    t.ok((await stat(vda ?? "")).blocks * 512 < 1 << 20, "sparse");
    t.equal((await stat(vda ?? "")).mode & 0o077, 0, "the owner's alone");
    const description = JSON.parse(await readFile(join(copy.directory, "point.json"), "utf8")) as {
      point: { pointId: string };
      disks: unknown;
    };
    t.same([description.point.pointId, description.disks], [pointId, copy.disks]);
  }
  t.equal((await readdir(out)).length, 2, "nothing else is left");
});

void t.test(
  "a system that writes less than it was asked to takes nothing out of a copy",
  async (t) => {
    const { root, scene, first, copies, out } = await start(t);
    await using some = await open(root, "r");
    const handles = Object.getPrototypeOf(some) as Record<"write", (...a: unknown[]) => unknown>;
    const { write } = handles;
    t.intercept(handles, "write", {
      value: function (this: unknown, from: Buffer, offset: number, _length: number, at: number) {
        return Reflect.apply(write, this, [from, offset, 100, at]);
      },
    });
    const point = { vmId: scene.vm.vmId, pointId: first.pointId };
    const copy = await ended(
      copies,
      await copies.start({ ...point, format: "raw", parentDirectory: out }),
    );
    const [vda] = copy.disks.map(({ file }) => join(copy.directory, file));
    t.ok((await readFile(vda ?? "")).equals(expected({ 0: 11, 9000: 12 })));
  },
);

const noQemu = await skipWithout("qemu-img");

void t.test("a qcow2 copy is the raw one, says qemu-img", { skip: noQemu }, async (t) => {
  const { scene, second, copies, root } = await start(t);
  const made: PointCopy[] = [];
  for (const format of ["raw", "qcow2"] as const) {
    const point = { vmId: scene.vm.vmId, pointId: second.pointId };
    const started = await copies.start({ ...point, format, parentDirectory: join(root, format) });
    made.push(await ended(copies, started));
  }
  t.same(
    made.map(({ state }) => state),
    ["done", "done"],
  );
  for (const index of [0, 1]) {
    const [raw = "", qcow2 = ""] = made.map((one) =>
      join(one.directory, one.disks[index]?.file ?? ""),
    );
    const info = JSON.parse(
      await succeeds(t, "qemu-img", "info", "--output=json", qcow2),
    ) as Record<string, unknown>;
    t.same([info["format"], info["virtual-size"]], ["qcow2", SIZE_BYTES + 512]);
    await succeeds(t, "qemu-img", "check", "-q", qcow2);
    // Without "strict": qcow2 may have rounded the size up, to zeroes.
    t.match(
      await succeeds(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, qcow2),
      /identical/,
    );
  }
});

void t.test("G3: a copy is there whole under its name, or nothing of it is", async (t) => {
  const { scene, second, copies, out } = await start(t);
  const request = { vmId: scene.vm.vmId, pointId: second.pointId, format: "raw" as const };
  const directory = join(out, `${request.vmId}-point-2`);
  await mkdir(`${directory}.partial`, { recursive: true });
  await writeFile(join(`${directory}.partial`, "disk-0.raw"), "what a crash left");
  const stopped = await copies.start({ ...request, parentDirectory: out });
  await copies.stop(stopped.copyId);
  const { state, failure } = copies.find(stopped.copyId);
  if (state === "failed") {
    t.equal(failure?.code, "CANCELLED");
    t.same(
      (await readdir(out)).filter((name) => !name.endsWith(".partial")),
      [],
    );
  }
  const second2 = await copies.start({ ...request, parentDirectory: join(out, "other") });
  t.equal((await ended(copies, second2)).state, "done");
  const again = await copies.start({ ...request, parentDirectory: join(out, "other") });
  const refused = await ended(copies, again);
  t.same([refused.state, refused.failure?.code], ["failed", "ALREADY_EXISTS"]);
  t.same(await readdir(join(out, "other")), [`${request.vmId}-point-2`], "and no leftover");
  await t.rejects(copies.start({ ...request, parentDirectory: "relative" }), {
    code: "INVALID_ARGUMENT",
  });
  await t.rejects(copies.start({ ...request, pointId: request.vmId, parentDirectory: out }), {
    code: "NOT_FOUND",
  });
});

void t.test(
  "T26: a point that is being copied is not merged away, and commits go on",
  async (t) => {
    const { scene, store, first, second, copies, out } = await start(t);
    const { vmId } = scene.vm;
    const request = { vmId, pointId: first.pointId, format: "raw" as const };
    // One after another: the last one begins when much has happened.
    const begun = [
      await copies.start({ ...request, parentDirectory: join(out, "1") }),
      await copies.start({ ...request, parentDirectory: join(out, "2") }),
      await copies.start({ ...request, parentDirectory: join(out, "3") }),
    ];
    const third = await scene.point(store, second.pointId, { 0: { 0: 31 } });
    await keepNewest(store, vmId, 1);
    for (const copy of begun) {
      const { state, directory } = await ended(copies, copy);
      t.equal(state, "done");
      const content = await readFile(join(directory, "disk-0.raw"));
      t.ok(content.equals(expected({ 0: 11, 9000: 12 })), "the point as it was");
    }
    t.ok(await keepNewest(store, vmId, 1), "afterwards it may go");
    t.same(
      (await store.points(vmId)).map(({ pointId }) => pointId),
      [third.pointId],
    );
  },
);

/** In the place of qemu-img: says when it has begun, and takes its time to end when it is told to. */
const SLOW_PROGRAM = `#!/bin/sh
trap 'sleep 0.2; touch "$0.ended"; exit 1' TERM
touch "$0.begun"
while :; do sleep 0.05; done
`;

void t.test("a stopped copy has ended when it says so, and the program that made it", async (t) => {
  const { root, scene, second, copies, out } = await start(t);
  const programs = join(root, "programs");
  await mkdir(programs);
  const program = join(programs, "qemu-img");
  await writeFile(program, SLOW_PROGRAM, { mode: 0o755 });
  const path = process.env["PATH"];
  process.env["PATH"] = `${programs}:${path}`;
  t.teardown(() => {
    process.env["PATH"] = path;
  });
  const request = { vmId: scene.vm.vmId, pointId: second.pointId, format: "qcow2" as const };
  const { copyId } = await copies.start({ ...request, parentDirectory: out });
  await until("its begin", LIMIT_MS, async () =>
    (await readdir(programs)).includes("qemu-img.begun"),
  );
  await copies.stop(copyId);
  t.equal(copies.find(copyId).failure?.code, "CANCELLED");
  t.ok((await readdir(programs)).includes("qemu-img.ended"));
  t.same(await readdir(out), []);
});

void t.test("a failed copy leaves nothing", async (t) => {
  const { scene, store, second, root, out } = await start(t);
  // Nothing can listen on a path that long, so that the conversion cannot begin.
  const far = new PointCopies({ store, socketDirectory: join(root, "x".repeat(200)) });
  const request = { vmId: scene.vm.vmId, pointId: second.pointId, format: "qcow2" as const };
  const copy = await ended(far, await far.start({ ...request, parentDirectory: out }));
  t.equal(copy.state, "failed");
  t.same(await readdir(out), []);
});
