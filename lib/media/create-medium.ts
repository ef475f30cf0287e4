import { randomBytes, randomUUID } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { MediaProtection } from "../model/initial-media.js";
import { KEY_BYTES, lockMedia } from "./media-lock.js";
import { writeHeader } from "./medium.js";
import { diskError } from "./medium-files.js";

export interface CreatedMedium {
  readonly mediaId: string;
  /** The medium's own folder. */
  readonly directory: string;
  readonly key: Buffer;
}

/** An empty medium below `parent`, which may hold others. */
export async function createMedium(
  parent: string,
  vmName: string,
  protection: MediaProtection,
): Promise<CreatedMedium> {
  const mediaId = randomUUID();
  const key = randomBytes(KEY_BYTES);
  const lock = await lockMedia(key, mediaId, protection);
  const directory = join(parent, `${vmName}_${mediaId}`);
  try {
    await mkdir(directory, { mode: 0o700 });
  } catch (thrown) {
    throw diskError(thrown, parent);
  }
  await writeHeader(directory, { mediaId, lock });
  return { mediaId, directory, key };
}
