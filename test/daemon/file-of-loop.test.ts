import { mkdir, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import t from "tap";
import { fileOfLoop } from "#lib/daemon/file-of-loop.js";
import { scratchDirectory } from "../support/program.js";

/** As <sys/sysmacros.h> makes it of 7:300 and of 259:1. */
const [LOOP, PARTITION, OTHER] = [0x10072c, 0x10301, 0x801];

void t.test("a loop device, and a partition of one, is the file behind it", async (t) => {
  const directory = await scratchDirectory(t);
  const [sysfs, image] = [join(directory, "sys"), join(directory, "disk.raw")];
  await writeFile(image, "x");
  const device = join(sysfs, "devices/virtual/block/loop300");
  for (const made of ["loop", "loop300p1"]) await mkdir(join(device, made), { recursive: true });
  await writeFile(join(device, "loop/backing_file"), `${image}\n`);
  await mkdir(join(sysfs, "dev/block"), { recursive: true });
  await symlink(device, join(sysfs, "dev/block/7:300"));
  await symlink(join(device, "loop300p1"), join(sysfs, "dev/block/259:1"));
  const { dev, ino } = await stat(image);
  t.match(await fileOfLoop(LOOP, sysfs), { dev, ino });
  t.match(await fileOfLoop(PARTITION, sysfs), { dev, ino });
  t.equal(await fileOfLoop(OTHER, sysfs), null);
  await writeFile(join(device, "loop/backing_file"), `${image} (deleted)\n`);
  t.equal(await fileOfLoop(LOOP, sysfs), null, "nobody can name that one");
});
