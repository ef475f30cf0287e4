import { createHash } from "node:crypto";
import { copyFile, mkdir, mkdtemp, rm, stat, symlink, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { cached, cachePath, prune } from "./cache.js";
import type { GuestKernel } from "./kernel.js";
import { librariesOf, outputOf, requireProgram } from "./programs.js";
import { projectFiles } from "./project-files.js";
import { LAB_INIT } from "./scripts.js";

/** What a guest's root file system holds besides busybox. */
export interface RootContent {
  /** Names or paths; each comes with its libraries. */
  readonly programs: readonly string[];
  /** Kernel modules; each comes with what it depends on. */
  readonly modules: readonly string[];
  /** Node.js as `node`, and this project, built, under /tidemark. */
  readonly withProject: boolean;
}

/** Paths of the host by paths of the guest. */
export type FileMap = Map<string, string>;

const IMAGES_KEPT = 6;
const FREE_MIB = 64;

/** An ext4 image, made anew when one of its files is. */
export async function rootImage(kernel: GuestKernel, content: RootContent): Promise<string> {
  const files = await filesOf(kernel, content);
  const image = cachePath(`root-${await fingerprint(files)}.img`);
  await cached(image, (into) => makeImage(into, files, kernel));
  await utimes(image, new Date(), new Date());
  await prune("root-", IMAGES_KEPT);
  return image;
}

async function filesOf(kernel: GuestKernel, content: RootContent): Promise<FileMap> {
  const files: FileMap = new Map();
  files.set("/usr/bin/busybox", await requireProgram("busybox"));
  for (const name of content.programs) {
    const path = await requireProgram(name);
    await addProgram(files, `/usr/bin/${path.slice(dirname(path).length + 1)}`, path);
  }
  for (const name of content.modules) {
    for (const path of await kernel.moduleFiles(name)) {
      files.set(`/usr${path.slice(kernel.root.length)}`, path);
    }
  }
  if (content.withProject) {
    await addProgram(files, "/usr/bin/node", process.execPath);
    for (const [to, from] of await projectFiles()) {
      if (to.endsWith(".node") || to.endsWith("/tidemark-fuse")) await addProgram(files, to, from);
      else files.set(to, from);
    }
  }
  return files;
}

async function addProgram(files: FileMap, to: string, from: string): Promise<void> {
  files.set(to, from);
  for (const library of await librariesOf(from)) files.set(library, library);
}

async function fingerprint(files: FileMap): Promise<string> {
  const hash = createHash("sha256").update(LAB_INIT);
  for (const [to, from] of [...files].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const { size, mtimeMs } = await stat(from);
    hash.update(`${to}\0${from}\0${size}\0${mtimeMs}\n`);
  }
  return hash.digest("hex").slice(0, 16);
}

async function makeImage(into: string, files: FileMap, kernel: GuestKernel): Promise<void> {
  const stage = await mkdtemp(join(tmpdir(), "tidemark-root-"));
  try {
    await makeSkeleton(stage);
    for (const [to, from] of files) await install(from, join(stage, to));
    await mkdir(join(stage, "usr/lib/modules", kernel.version), { recursive: true });
    await outputOf(await requireProgram("depmod"), "-b", stage, kernel.version);
    const usedMib = Number.parseInt(await outputOf("du", "-sm", stage), 10);
    const sizeMib = Math.ceil(usedMib * 1.15) + FREE_MIB;
    const mkfs = await requireProgram("mke2fs");
    const features = ["-q", "-t", "ext4", "-O", "^has_journal", "-m", "0"];
    await outputOf(mkfs, ...features, "-d", stage, into, `${sizeMib}M`);
  } finally {
    await rm(stage, { recursive: true, force: true });
  }
}

async function makeSkeleton(stage: string): Promise<void> {
  const folders =
    "usr/bin usr/sbin usr/lib usr/lib64 busybox proc sys dev run tmp etc job mnt root";
  for (const folder of folders.split(" ")) await mkdir(join(stage, folder), { recursive: true });
  for (const folder of ["bin", "sbin", "lib", "lib64"]) {
    await symlink(`usr/${folder}`, join(stage, folder));
  }
  const applets = (await outputOf("busybox", "--list")).split("\n").filter((name) => name !== "");
  for (const name of applets) await symlink("/usr/bin/busybox", join(stage, "busybox", name));
  await symlink("/usr/bin/busybox", join(stage, "usr/bin/sh"));
  await writeFile(join(stage, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n");
  await writeFile(join(stage, "etc/group"), "root:x:0:\n");
  await symlink("/proc/mounts", join(stage, "etc/mtab"));
  await writeFile(join(stage, "lab-init"), LAB_INIT, { mode: 0o755 });
}

/** Programs without what only debuggers read: a tenth of the size. */
async function install(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true });
  await copyFile(from, to);
  if (/\/tidemark(?:\.node|-fuse)$/.test(to)) await outputOf("strip", "-g", to);
}
