import { constants, open } from "node:fs/promises";
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { DetachOptions, DetachState } from "../cli/local-commands.js";
import { TidemarkError } from "../model/errors.js";
import {
  ATTACHMENTS_DIRECTORY,
  AttachmentPlace,
  type AttachmentRecord,
  isAlive,
  listAttachments,
} from "../tracking/attachment-record.js";
import { dropAttachment } from "../tracking/drop-attachment.js";

const OWNER_LIMIT_MS = 30_000;
const POLL_MS = 50;

/** `tidemark detach`: asks the process that serves the device, or stands in for it. */
export async function detachDisk(options: DetachOptions): Promise<DetachState> {
  const record = await find(options.name);
  const { devicePath, diskPath } = record;
  if (await isAlive(record.owner)) await askOwner(record);
  else if (options.force) await dropAttachment(record);
  else {
    throw new TidemarkError(
      "CONFLICT",
      `Cannot detach ${devicePath}: because the process that served it is gone, and what waits to be written would be lost.`,
      {
        hint: `Serve it again (tidemark attach --disk ${diskPath}) and detach it then, or lose that with --force.`,
      },
    );
  }
  return { devicePath, diskPath };
}

async function find(name: string): Promise<AttachmentRecord> {
  const path = resolve(name);
  for (const record of await listAttachments()) {
    const names = [record.devicePath, record.diskId, resolve(record.diskPath)];
    if (names.includes(name) || names.includes(path)) return record;
  }
  throw new TidemarkError("NOT_FOUND", `Cannot detach ${name}: because it is not attached.`);
}

/** The owner would leave a device that is in use; here that is an error before anything is done. */
async function askOwner(record: AttachmentRecord): Promise<void> {
  await requireUnused(record.devicePath);
  process.kill(record.owner.pid, "SIGTERM");
  const endMs = performance.now() + OWNER_LIMIT_MS;
  while (await isAlive(record.owner)) {
    if (performance.now() > endMs) {
      throw new TidemarkError(
        "TIMED_OUT",
        `Cannot detach ${record.devicePath}: because process ${record.owner.pid} does not end.`,
      );
    }
    await sleep(POLL_MS);
  }
  if ((await new AttachmentPlace(ATTACHMENTS_DIRECTORY, record.diskId).read()) === null) return;
  throw inUse(record.devicePath);
}

async function requireUnused(devicePath: string): Promise<void> {
  try {
    const claim = await open(devicePath, constants.O_RDONLY | constants.O_EXCL);
    await claim.close();
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === "EBUSY") throw inUse(devicePath);
  }
}

function inUse(devicePath: string): TidemarkError {
  return new TidemarkError(
    "IN_USE",
    `Cannot detach ${devicePath}: because it is in use, by a mounted file system for example.`,
    { hint: "Unmount it first." },
  );
}
