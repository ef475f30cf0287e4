/** Where what is on a medium, and what its documents hold (docs/formats/initial-media.md). */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { z } from "zod";
import type { DeltaHeader } from "../model/delta.js";
import { TidemarkError } from "../model/errors.js";
import * as peer from "../transport/peer-schemas.js";
import { mediaLock } from "./media-lock.js";
import { readText, syncDirectory, writeWhole } from "./medium-files.js";

const MEDIUM_FORMAT_VERSION = 1;
const HEADER_FILE = "media.json";
const LARGEST_HEADER = 1 << 16;

export const SESSION_FILE = "session";
export const MANIFEST_FILE = "manifest";
const DELTA_FILE = "delta";

const count = z.number().int().nonnegative();
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);

/** What anyone can read of a medium. */
const header = z.strictObject({
  format: z.literal("tidemark-initial-media"),
  version: z.literal(MEDIUM_FORMAT_VERSION),
  mediaId: peer.uuid,
  lock: mediaLock,
  /** Of the object without this field, as JSON without spaces, hex. */
  sha256,
});

export type MediumHeader = z.output<typeof header>;

/** The deltas of a medium are those of one session; another session makes them void. */
export const sessionDocument = z.object({ sessionId: peer.uuid });

const segmentEntry = z.object({
  contentBytes: count,
  fileBytes: count,
  sha256,
  receipt: peer.segmentReceipt,
});

/** A segment's file; its index is its place in the list. */
export type SegmentEntry = z.output<typeof segmentEntry>;

export const deltaDocument = z.object({
  header: peer.deltaHeader,
  digest: sha256,
  segments: z.array(segmentEntry),
});

export interface DeltaDocument {
  readonly header: DeltaHeader;
  readonly digest: string;
  readonly segments: readonly SegmentEntry[];
}

/** There when the medium is whole. */
export const manifestDocument = z.object({
  vm: peer.replicatedVm,
  generation: peer.generation,
  /** In order; the last one is the recovery point. */
  deltas: z.array(deltaDocument).min(1),
});

export interface ManifestDocument {
  readonly vm: z.output<typeof peer.replicatedVm>;
  readonly generation: z.output<typeof peer.generation>;
  readonly deltas: readonly DeltaDocument[];
}

const digits = (value: number, width: number) => value.toString().padStart(width, "0");

/** Names below the medium's folder; deltas count from 1, segments from 0. */
export const deltaDirectory = (order: number) => `delta-${digits(order, 6)}`;
export const deltaFile = (order: number) => `${deltaDirectory(order)}/${DELTA_FILE}`;
export const segmentFile = (order: number, segmentIndex: number) =>
  `${deltaDirectory(order)}/segment-${digits(segmentIndex, 8)}`;

export async function writeHeader(
  directory: string,
  { mediaId, lock }: Pick<MediumHeader, "mediaId" | "lock">,
): Promise<void> {
  const content = {
    format: "tidemark-initial-media",
    version: MEDIUM_FORMAT_VERSION,
    mediaId,
    lock,
  };
  const text = JSON.stringify({ ...content, sha256: sumOf(content) }, null, 2);
  await writeWhole(join(directory, HEADER_FILE), once(Buffer.from(`${text}\n`)));
  await syncDirectory(directory);
}

/** NOT_FOUND, FOREIGN, VERSION_UNKNOWN, CORRUPT. */
export async function readHeader(directory: string): Promise<MediumHeader> {
  const path = join(directory, HEADER_FILE);
  const text = await readText(path);
  if (text === null) {
    throw new TidemarkError(
      "NOT_FOUND",
      `Cannot find a medium in ${directory}: because it has no ${HEADER_FILE}.`,
      {
        hint: "Name the folder that the export wrote.",
      },
    );
  }
  const value = parseJson(text);
  if (value?.format !== "tidemark-initial-media") {
    throw new TidemarkError(
      "FOREIGN",
      `Cannot use ${path}: because it is not that of an initial medium.`,
    );
  }
  if (value.version !== MEDIUM_FORMAT_VERSION) {
    throw new TidemarkError(
      "VERSION_UNKNOWN",
      `Cannot use ${path}: because its format is version ${String(value.version).slice(0, 20)} and this build knows ${MEDIUM_FORMAT_VERSION}.`,
      { hint: "Bring both hosts to the same version of Tidemark." },
    );
  }
  const parsed = header.safeParse(value);
  const { sha256: stated, ...content } = value as { readonly sha256?: unknown };
  if (parsed.success && stated === sumOf(content)) return parsed.data;
  throw new TidemarkError("CORRUPT", `Cannot use ${path}: because it is damaged.`, {
    hint: "Copy the medium again, or export the VM anew.",
    cause: parsed.error,
  });
}

/** What was decrypted is what a host wrote; another version of it may not be. */
export function parseDocument<T>(schema: z.ZodType<T>, value: unknown, path: string): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new TidemarkError(
    "CORRUPT",
    `Cannot use ${path}: because it does not hold what it should.`,
    {
      cause: parsed.error,
    },
  );
}

function sumOf(content: object): string {
  return createHash("sha256").update(JSON.stringify(content)).digest("hex");
}

function parseJson(text: string): { format?: unknown; version?: unknown } | null {
  if (text.length > LARGEST_HEADER) return null;
  try {
    return JSON.parse(text) as { format?: unknown; version?: unknown } | null;
  } catch {
    return null;
  }
}

async function* once(content: Uint8Array): AsyncGenerator<Uint8Array> {
  yield content;
}
