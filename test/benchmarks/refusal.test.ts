import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t, { type Test } from "tap";
import { isInstalled } from "../../benchmarks/program.js";
import { refusalOf } from "../../benchmarks/refusal.js";
import { gatherFacts, type TargetFacts } from "../../benchmarks/target-facts.js";

const SAFE: TargetFacts = {
  path: "/dev/spare",
  kind: "device",
  sizeBytes: 2 ** 30,
  mountedAt: [],
  heldBy: [],
  signature: null,
  unsure: [],
};

void t.test(
  "a device or file with nothing on it takes --destroy-data, and only that",
  async (t) => {
    for (const kind of ["device", "file"] as const) {
      t.match(refusalOf({ ...SAFE, kind }, false), /would be lost.*--destroy-data/);
      t.equal(refusalOf({ ...SAFE, kind }, true), null);
    }
  },
);

void t.test("--destroy-data does not override what speaks against it", async (t) => {
  const cases: readonly (readonly [Partial<TargetFacts>, RegExp])[] = [
    [{ mountedAt: ["/home"] }, /mounted at \/home/],
    [{ heldBy: ["swap on /dev/spare"] }, /in use by swap/],
    [{ signature: "ext4" }, /bears ext4/],
    [{ unsure: ["blkid ended with 8"] }, /blkid ended with 8/],
    [{ kind: "other" }, /no file, directory or block device/],
  ];
  for (const [facts, message] of cases) {
    t.match(refusalOf({ ...SAFE, ...facts }, true), message);
    t.not(refusalOf({ ...SAFE, ...facts }, false), null);
  }
});

void t.test(
  "a directory or a new name needs no permission, and has no data to destroy",
  async (t) => {
    for (const kind of ["absent", "directory"] as const) {
      t.equal(refusalOf({ ...SAFE, kind }, false), null);
      t.match(refusalOf({ ...SAFE, kind }, true), /no data to destroy/);
    }
  },
);

const noBlkid = isInstalled("blkid") ? false : "blkid is not installed";
const noMkfs = isInstalled("mkfs.ext4") ? noBlkid : "mkfs.ext4 is not installed";

/** A folder of the test's own with an 8 MiB file of zeroes. */
function blankFile(t: Test): { readonly folder: string; readonly blank: string } {
  const folder = mkdtempSync(join(tmpdir(), "bench-facts-"));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const blank = join(folder, "blank");
  writeFileSync(blank, "");
  truncateSync(blank, 8 * 2 ** 20);
  return { folder, blank };
}

void t.test("a new name, a directory and what is neither are told apart", async (t) => {
  const { folder } = blankFile(t);
  t.equal((await gatherFacts(join(folder, "new"))).kind, "absent");
  t.equal((await gatherFacts(folder)).kind, "directory");
  t.equal((await gatherFacts("/dev/null")).kind, "other");
});

void t.test("a blank file bears nothing, and a link leads to it", { skip: noBlkid }, async (t) => {
  const { folder, blank } = blankFile(t);
  symlinkSync(blank, join(folder, "link"));
  const facts = await gatherFacts(join(folder, "link"));
  t.match(facts, { path: blank, kind: "file", sizeBytes: 8 * 2 ** 20, signature: null });
  t.same([facts.mountedAt, facts.heldBy, facts.unsure], [[], [], []]);
});

void t.test("a file with a file system bears it", { skip: noMkfs }, async (t) => {
  const { blank } = blankFile(t);
  const env = { ...process.env, PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin` };
  execFileSync("mkfs.ext4", ["-q", "-F", blank], { env });
  t.equal((await gatherFacts(blank)).signature, "ext4");
  t.match(refusalOf(await gatherFacts(blank), true), /bears ext4/);
});

void t.test("a file that a process has open is in use", async (t) => {
  const { blank } = blankFile(t);
  const child = spawn("sh", ["-c", `exec 3<'${blank}'; echo open; read line`]);
  await once(child.stdout, "data");
  const { heldBy } = await gatherFacts(blank);
  child.stdin.end();
  await once(child, "close");
  t.ok(heldBy.includes(`process ${child.pid ?? 0}`), heldBy.join());
  t.same((await gatherFacts(blank)).heldBy, []);
});

function mountedDevice(): string | null {
  const devices = readFileSync("/proc/self/mounts", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[0] ?? "");
  return devices.find((device) => device.startsWith("/dev/") && device !== "/dev/root") ?? null;
}

const mounted = mountedDevice();
const canRead = process.getuid?.() === 0 && mounted !== null && noBlkid === false;
const whyNot = canRead ? false : "it takes root and a mounted device";
void t.test("a mounted device is refused", { skip: whyNot }, async (t) => {
  const facts = await gatherFacts(mounted ?? "");
  t.equal(facts.kind, "device");
  t.ok(facts.mountedAt.length > 0);
  t.match(refusalOf(facts, true), /is mounted at/);
});
