/**
 * How the key of a medium is kept on it: under a passphrase (scrypt), or for who
 * has a private key (ECDH with a key of one use). docs/formats/initial-media.md.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  hkdfSync,
  type KeyObject,
  randomBytes,
  scrypt,
  X509Certificate,
} from "node:crypto";
import { z } from "zod";
import { TidemarkError } from "../model/errors.js";
import type { MediaOpener, MediaProtection } from "../model/initial-media.js";

export const KEY_BYTES = 32;

const SCRYPT = { logN: 17, r: 8, p: 1 } as const;
const SHORTEST_PASSPHRASE = 8;
const TAG_BYTES = 16;
/** Each wrapping key seals one box. */
const NONCE = Buffer.alloc(12);

const base64 = z
  .string()
  .max(4096)
  .regex(/^[A-Za-z0-9+/]+={0,2}$/);

export const mediaLock = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("passphrase"),
    /** Bounds what a foreign file may make this host spend. */
    logN: z.number().int().min(14).max(20),
    r: z.literal(SCRYPT.r),
    p: z.literal(SCRYPT.p),
    salt: base64,
    box: base64,
  }),
  z.strictObject({
    kind: z.literal("recipient"),
    /** SHA-256 of the recipient's public key (SPKI, DER), hex. */
    recipient: z.string().regex(/^[0-9a-f]{64}$/),
    /** The public key of one use: SPKI, DER. */
    ephemeral: base64,
    box: base64,
  }),
]);

export type MediaLock = z.infer<typeof mediaLock>;

export async function lockMedia(
  key: Uint8Array,
  mediaId: string,
  protection: MediaProtection,
): Promise<MediaLock> {
  if (protection.kind === "passphrase")
    return lockByPassphrase(key, mediaId, protection.passphrase);
  const recipient = parseRecipient(protection.publicPem);
  const { publicKey, privateKey } = newKeyPairLike(recipient);
  const wrapping = agreedKey(privateKey, recipient, publicKey, recipient);
  return {
    kind: "recipient",
    recipient: fingerprintOf(recipient),
    ephemeral: spkiOf(publicKey).toString("base64"),
    box: seal(wrapping, mediaId, key),
  };
}

/** The medium's key. FORBIDDEN: not with this passphrase or private key. */
export async function unlockMedia(
  lock: MediaLock,
  mediaId: string,
  opener: MediaOpener,
): Promise<Buffer> {
  const box = Buffer.from(lock.box, "base64");
  if (lock.kind === "recipient")
    return openBox(recipientKey(lock, opener), mediaId, box, lock.kind);
  if (opener.passphrase === undefined) {
    throw refused("it is protected by a passphrase, and none was given", "Give its passphrase.");
  }
  const wrapping = await stretch(opener.passphrase, Buffer.from(lock.salt, "base64"), lock.logN);
  return openBox(wrapping, mediaId, box, lock.kind);
}

async function lockByPassphrase(
  key: Uint8Array,
  mediaId: string,
  passphrase: string,
): Promise<MediaLock> {
  if (passphrase.length < SHORTEST_PASSPHRASE) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      `Cannot protect the medium: because the passphrase has less than ${SHORTEST_PASSPHRASE} characters.`,
      { hint: "Use some words that nobody else would choose together." },
    );
  }
  const salt = randomBytes(16);
  const wrapping = await stretch(passphrase, salt, SCRYPT.logN);
  const box = seal(wrapping, mediaId, key);
  return { kind: "passphrase", ...SCRYPT, salt: salt.toString("base64"), box };
}

function stretch(passphrase: string, salt: Buffer, logN: number): Promise<Buffer> {
  const options = { N: 2 ** logN, r: SCRYPT.r, p: SCRYPT.p, maxmem: 256 * SCRYPT.r * 2 ** logN };
  return new Promise((resolve, reject) => {
    scrypt(passphrase.normalize("NFKC"), salt, KEY_BYTES, options, (error, derived) => {
      if (error === null) resolve(derived);
      else reject(error);
    });
  });
}

function recipientKey(
  lock: Extract<MediaLock, { kind: "recipient" }>,
  { privatePem }: MediaOpener,
): Buffer {
  if (privatePem === undefined) {
    throw refused("it is for a recipient's key, and none was given", "Give the private key.");
  }
  const privateKey = parsePrivateKey(privatePem);
  const recipient = createPublicKey(privateKey);
  if (fingerprintOf(recipient) !== lock.recipient) {
    throw refused(
      "it was written for another recipient's key",
      "Import it on the host that it was made for, or give that recipient's private key.",
    );
  }
  const ephemeral = parseEphemeral(lock.ephemeral);
  return agreedKey(privateKey, ephemeral, ephemeral, recipient);
}

/** X25519 and P-256 keys, and certificates that have one. */
function parseRecipient(pem: string): KeyObject {
  try {
    const isCertificate = pem.includes("BEGIN CERTIFICATE");
    const key = isCertificate ? new X509Certificate(pem).publicKey : createPublicKey(pem);
    if (!pem.includes("PRIVATE KEY") && isUsable(key)) return key;
  } catch {
    // Answered below, as any other text that is none.
  }
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    "Cannot protect the medium: because the recipient is no X25519 or P-256 public key and no certificate with one.",
    { hint: "Give the replica host's certificate, pki/host.crt, or a public key in PEM format." },
  );
}

function isUsable({ asymmetricKeyType, asymmetricKeyDetails }: KeyObject): boolean {
  if (asymmetricKeyType === "x25519") return true;
  return asymmetricKeyType === "ec" && asymmetricKeyDetails?.namedCurve === "prime256v1";
}

function newKeyPairLike(key: KeyObject) {
  return key.asymmetricKeyType === "x25519"
    ? generateKeyPairSync("x25519")
    : generateKeyPairSync("ec", { namedCurve: "prime256v1" });
}

function parsePrivateKey(pem: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch (cause) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      "Cannot open the medium: because what was given is no private key without a passphrase, in PEM format.",
      { cause },
    );
  }
}

function parseEphemeral(text: string): KeyObject {
  try {
    return createPublicKey({ key: Buffer.from(text, "base64"), format: "der", type: "spki" });
  } catch (cause) {
    throw new TidemarkError("CORRUPT", "Cannot open the medium: because its lock is damaged.", {
      cause,
    });
  }
}

function agreedKey(
  privateKey: KeyObject,
  publicKey: KeyObject,
  ephemeral: KeyObject,
  recipient: KeyObject,
): Buffer {
  try {
    const shared = diffieHellman({ privateKey, publicKey });
    const salt = Buffer.concat([spkiOf(ephemeral), spkiOf(recipient)]);
    return Buffer.from(
      hkdfSync("sha256", shared, salt, "tidemark initial media 1 recipient", KEY_BYTES),
    );
  } catch (cause) {
    throw new TidemarkError(
      "CORRUPT",
      "Cannot open the medium: because its lock does not fit the key.",
      {
        cause,
      },
    );
  }
}

function seal(wrapping: Uint8Array, mediaId: string, key: Uint8Array): string {
  const cipher = createCipheriv("aes-256-gcm", wrapping, NONCE).setAAD(Buffer.from(mediaId));
  return Buffer.concat([cipher.update(key), cipher.final(), cipher.getAuthTag()]).toString(
    "base64",
  );
}

function openBox(
  wrapping: Uint8Array,
  mediaId: string,
  box: Buffer,
  kind: MediaLock["kind"],
): Buffer {
  const decipher = createDecipheriv("aes-256-gcm", wrapping, NONCE, { authTagLength: TAG_BYTES });
  decipher.setAAD(Buffer.from(mediaId));
  try {
    if (box.length !== KEY_BYTES + TAG_BYTES) throw new Error("not a box");
    decipher.setAuthTag(box.subarray(KEY_BYTES));
    return Buffer.concat([decipher.update(box.subarray(0, KEY_BYTES)), decipher.final()]);
  } catch {
    throw kind === "passphrase"
      ? refused("the passphrase is wrong", "Give the one that the medium was exported with.")
      : refused("its lock does not fit the key", "The file media.json is damaged: copy it again.");
  }
}

function spkiOf(key: KeyObject): Buffer {
  return key.export({ format: "der", type: "spki" });
}

function fingerprintOf(key: KeyObject): string {
  return createHash("sha256").update(spkiOf(key)).digest("hex");
}

function refused(why: string, hint: string): TidemarkError {
  return new TidemarkError("FORBIDDEN", `Cannot open the medium: because ${why}.`, { hint });
}
