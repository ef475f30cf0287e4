import { mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { execFile } from "node:child_process";
import { cached, cachePath } from "./cache.js";
import { outputOf, requireProgram } from "./programs.js";

/** Depends on the newest kernel of the distribution's release. */
const META_PACKAGE = "linux-image-cloud-amd64";

const execute = promisify(execFile);

/** Debian's kernel for cloud machines, unpacked and never installed. */
export class GuestKernel {
  readonly version: string;
  readonly image: string;
  /** Holds lib/modules. */
  readonly root: string;

  private constructor(root: string, version: string) {
    this.root = root;
    this.version = version;
    this.image = join(root, `vmlinuz-${version}`);
  }

  static async get(): Promise<GuestKernel> {
    const root = cachePath("kernel");
    await cached(root, unpackKernel);
    const [version] = await readdir(join(root, "lib", "modules"));
    if (version === undefined) throw new Error(`Cannot use ${root}: because it has no modules.`);
    return new GuestKernel(root, version);
  }

  /** The files of a module and of what it depends on, in the order of loading; none if built in. */
  async moduleFiles(name: string): Promise<string[]> {
    const modprobe = await requireProgram("modprobe");
    const place = ["-d", this.root, "-S", this.version];
    const listing = await outputOf(modprobe, ...place, "--show-depends", name);
    return [...listing.matchAll(/^insmod (\S+)/gm)].map((match) => match[1] ?? "");
  }
}

async function unpackKernel(into: string): Promise<void> {
  const scratch = await mkdtemp(join(tmpdir(), "tidemark-kernel-"));
  try {
    const depends = await outputOf("apt-cache", "depends", META_PACKAGE);
    const name = /Depends: (linux-image-\S+)/.exec(depends)?.[1];
    if (name === undefined) throw new Error(`Cannot find what ${META_PACKAGE} depends on.`);
    const version = name.slice("linux-image-".length);
    await execute("apt-get", ["download", name], { cwd: scratch });
    const [archive] = await readdir(scratch);
    await execute("dpkg-deb", ["-x", join(scratch, archive ?? ""), join(scratch, "unpacked")]);
    await mkdir(into, { recursive: true });
    await execute("cp", ["-a", join(scratch, "unpacked", "lib"), into]);
    await execute(await requireProgram("depmod"), ["-b", into, version]);
    const kernel = `vmlinuz-${version}`;
    await execute("cp", [join(scratch, "unpacked", "boot", kernel), join(into, "copy")]);
    await rename(join(into, "copy"), join(into, kernel));
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}
