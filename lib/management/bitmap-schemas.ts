/** The part of the schemas that is about bitmaps of consumers outside Tidemark. */
import { z } from "zod";

const bytes = z.number().int().nonnegative();

export const bitmapAddRequest = z.strictObject({
  name: z
    .string()
    .min(1)
    .refine((name) => Buffer.byteLength(name) <= 255, "at most 255 bytes"),
  /** What counts as changed from the start. */
  start: z.enum(["all", "allocated", "nothing"]).default("all"),
});

export const backupBeginRequest = z.strictObject({
  scope: z.enum(["disk", "changes"]).default("disk"),
});

export const backup = z.object({
  bitmap: z.string(),
  takenAtMs: z.number().nonnegative(),
  pauseNs: z.number(),
  /** Why it cannot be relied upon any more. */
  brokenReason: z.string().nullable(),
  /** Of each export: the blocks of exactly this backup. */
  context: z.string(),
  disks: z.array(
    z.object({
      diskId: z.uuid(),
      name: z.string(),
      sizeBytes: bytes,
      changedBytes: bytes,
      uri: z.string(),
    }),
  ),
});

export const bitmap = z.object({
  name: z.string(),
  disks: z.array(z.object({ name: z.string(), changedBytes: bytes, suspectBytes: bytes })),
  backup: backup.nullable(),
});

export type BitmapAddRequest = z.infer<typeof bitmapAddRequest>;
export type BackupBeginRequest = z.infer<typeof backupBeginRequest>;
export type BackupBody = z.infer<typeof backup>;
export type BitmapBody = z.infer<typeof bitmap>;
