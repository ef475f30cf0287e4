/** The part of the schemas that is about first copies other than over the network. */
import { z } from "zod";

const path = z.string().min(1).max(4096);
const absolutePath = path.startsWith("/", "not an absolute path");
const pem = z
  .string()
  .min(1)
  .max(1 << 16);
const passphrase = z.string().min(1).max(1024);

/** Who can read a medium. */
export const mediaProtection = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("passphrase"), passphrase }),
  /** X25519 or P-256: a public key, or the replica host's certificate, PEM. */
  z.strictObject({ kind: z.literal("recipient"), publicPem: pem }),
]);

const medium = z.strictObject({
  by: z.literal("medium"),
  /** On this host; the medium gets a folder of its own below it. */
  directory: absolutePath,
  protection: mediaProtection,
});

const network = z.strictObject({ by: z.literal("network") });

/** How the first copy gets to the replica. */
export const firstCopyRequest = z.discriminatedUnion("by", [network, medium]);

/** "seed": from an existing disk at the replica, which an administrator there names. */
export const firstCopyAtEnable = z.discriminatedUnion("by", [
  network,
  medium,
  z.strictObject({ by: z.literal("seed") }),
]);

export const firstCopyStatus = z.object({
  by: z.enum(["network", "medium", "seed", "return"]),
  waitsFor: z.enum(["import", "seed"]).nullable(),
  directory: z.string().nullable(),
});

export const mediaImportRequest = z.strictObject({
  /** The medium's folder, or the one above it. */
  directory: absolutePath,
  passphrase: passphrase.optional(),
  /** The recipient's; default: this host's own. */
  privatePem: pem.optional(),
});

export const vmSeedRequest = z.strictObject({
  /** Raw images or block devices of this host; a disk that is not named begins empty. */
  disks: z
    .array(z.strictObject({ name: z.string().min(1).max(255), path: absolutePath }))
    .min(1)
    .max(64),
});

export type FirstCopyRequest = z.infer<typeof firstCopyAtEnable>;
