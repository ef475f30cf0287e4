import { spawn } from "node:child_process";
import { once } from "node:events";
import { access, open, readFile, writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import {
  type AttachmentPlace,
  identify,
  isAlive,
  type ProcessIdentity,
} from "./attachment-record.js";
import { binding } from "./binding.js";
import type { KernelDevice, KernelDevices, KernelDeviceSettings } from "./kernel-device.js";

const PROGRAM = fileURLToPath(new URL("../../build/Release/tidemark-fuse", import.meta.url));
const STOP_LIMIT_MS = 10_000;
const POLL_MS = 50;

/**
 * A loop device over one file of a FUSE process, which is a client of the NBD
 * server. That process outlives the server's, and waits for the next one.
 * Torn down in this order: loop device, FUSE, server.
 */
export const fuseLoop: KernelDevices = {
  async connect(place, _diskId, settings) {
    if (settings.devicePath !== null) {
      throw new TidemarkError(
        "INVALID_ARGUMENT",
        `Cannot choose ${settings.devicePath}: because a loop device's name is the kernel's choice.`,
      );
    }
    await binding.endFuseMount(place.mount);
    const fuse = await startFuse(place, settings);
    try {
      return loopDevice(
        place,
        await binding.attachLoopDevice(place.mount, settings.blockBytes),
        fuse,
      );
    } catch (thrown) {
      await stopFuse(place, fuse);
      throw toTidemarkError(thrown);
    }
  },

  async resume(place, _diskId, _settings, record) {
    if (record?.kind !== "loop" || record.fuse === null) return null;
    if (await isAlive(record.fuse)) return loopDevice(place, record.devicePath, record.fuse);
    // Nothing can be read or written through it any more.
    await binding.endFuseMount(place.mount);
    await binding.dropLoopDevice(record.devicePath, place.mount);
    return null;
  },

  async drop(place, record) {
    if (record.fuse !== null) await endProcess(record.fuse, "SIGKILL");
    await binding.endFuseMount(place.mount);
    await binding.dropLoopDevice(record.devicePath, place.mount);
  },
};

function loopDevice(
  place: AttachmentPlace,
  devicePath: string,
  fuse: ProcessIdentity,
): KernelDevice {
  return {
    kind: "loop",
    devicePath,
    fuse,
    // The FUSE process holds its file to the size that it found.
    resize: null,
    async detach() {
      await binding.detachLoopDevice(devicePath).catch((thrown: unknown) => {
        throw toTidemarkError(thrown);
      });
      await stopFuse(place, fuse);
    },
    release: () => Promise.resolve(),
  };
}

async function startFuse(
  place: AttachmentPlace,
  settings: KernelDeviceSettings,
): Promise<ProcessIdentity> {
  await requireFuse();
  await writeFile(place.mount, "");
  await using log = await open(place.fuseLog, "a", 0o600);
  const options = ["--socket", place.socket, "--mount", place.mount].concat(
    ["--connections", `${settings.connectionCount}`],
    ["--reconnect-limit", `${Math.ceil(settings.reconnectLimitMs / 1000)}`],
  );
  // In a session of its own, and without a pipe to this process: it outlives it.
  const child = spawn(PROGRAM, options, { detached: true, stdio: ["ignore", log.fd, log.fd] });
  child.unref();
  const ended = once(child, "exit").then(() => true);
  ended.catch(() => undefined);
  while (!(await isMounted(place.mount))) {
    const hasEnded = await Promise.race([ended, sleep(POLL_MS, false)]);
    if (hasEnded) throw await fuseFailure(place);
  }
  const identity = await identify(child.pid ?? 0);
  if (identity === null) throw await fuseFailure(place);
  return identity;
}

async function requireFuse(): Promise<void> {
  const lacks = async (path: string) =>
    access(path).then(
      () => false,
      () => true,
    );
  if (await lacks(PROGRAM)) {
    throw new TidemarkError(
      "UNSUPPORTED",
      "Cannot attach the disk by FUSE: because tidemark was built without libfuse3.",
      { hint: "Install libfuse3-dev and build again, or load the kernel's nbd: modprobe nbd" },
    );
  }
  if (await lacks("/dev/fuse")) {
    throw new TidemarkError(
      "UNSUPPORTED",
      "Cannot attach the disk by FUSE: because the kernel's fuse module is not loaded.",
      { hint: "Load it with: modprobe fuse" },
    );
  }
}

async function fuseFailure(place: AttachmentPlace): Promise<TidemarkError> {
  const log = await readFile(place.fuseLog, "utf8").catch(() => "");
  const last = log.trim().split("\n").at(-1) ?? "";
  return new TidemarkError("IO_ERROR", `Cannot attach the disk by FUSE: ${last || "it ended"}.`);
}

async function isMounted(path: string): Promise<boolean> {
  const mounts = await readFile("/proc/self/mountinfo", "utf8");
  return mounts.split("\n").some((line) => line.split(" ")[4] === path);
}

/** The connection is aborted whatever the process does: nothing may wait for it any more. */
async function stopFuse(place: AttachmentPlace, fuse: ProcessIdentity): Promise<void> {
  if (!(await endProcess(fuse, "SIGTERM"))) await endProcess(fuse, "SIGKILL");
  await binding.endFuseMount(place.mount);
}

/** False when it is there after all. */
async function endProcess(identity: ProcessIdentity, signal: NodeJS.Signals): Promise<boolean> {
  if (!(await isAlive(identity))) return true;
  process.kill(identity.pid, signal);
  const endMs = performance.now() + STOP_LIMIT_MS;
  while (performance.now() < endMs) {
    if (!(await isAlive(identity))) return true;
    await sleep(POLL_MS);
  }
  return false;
}
