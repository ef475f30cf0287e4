import { findProgram } from "./programs.js";

const NEEDED = [
  "qemu-system-x86_64",
  "busybox",
  "cpio",
  "mke2fs",
  "modprobe",
  "apt-get",
  "dpkg-deb",
];

/** For a test's `skip`: what this host lacks for a guest; false when it lacks nothing. */
export async function guestIsMissing(...programs: readonly string[]): Promise<string | false> {
  for (const name of [...NEEDED, ...programs]) {
    if ((await findProgram(name)) === null) return `${name} is not installed`;
  }
  return process.arch === "x64" ? false : "guests are x86-64 machines";
}
