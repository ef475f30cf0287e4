import { createHash, generateKeyPairSync, randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import t from "tap";
import { lockMedia, type MediaLock, unlockMedia } from "#lib/media/media-lock.js";
import {
  CHUNK_BYTES,
  ChunkSealer,
  readSealedFile,
  SEALED_HEADER_BYTES,
  type SealedPlace,
  TAG_BYTES,
} from "#lib/media/sealed-file.js";
import { toTidemarkError } from "#lib/model/errors.js";
import { createCa, issueCertificate } from "#lib/security/pki.js";
import { readFile } from "node:fs/promises";

const MEDIA_ID = "8f14e45f-ceea-467f-a8f2-1f0d6d1c7b11";
const KEY = createHash("sha256").update("a key").digest();
const PLACE: SealedPlace = { key: KEY, mediaId: MEDIA_ID, name: "delta-000001/segment-00000000" };
const SEALED_CHUNK = CHUNK_BYTES + TAG_BYTES;

const directory = await mkdtemp(join(tmpdir(), "tidemark-media-"));
t.teardown(() => rm(directory, { recursive: true, force: true }));

function sealed(content: Buffer, pieceBytes = 70_001, place = PLACE): Buffer {
  const sealer = new ChunkSealer(place);
  const pieces: Buffer[] = [sealer.header];
  for (let at = 0; at < content.length; at += pieceBytes) {
    pieces.push(...sealer.push(content.subarray(at, at + pieceBytes)));
  }
  pieces.push(sealer.end());
  return Buffer.concat(pieces);
}

async function opened(bytes: Buffer, place = PLACE): Promise<Buffer> {
  const path = join(directory, "file");
  await writeFile(path, bytes);
  const pieces: Buffer[] = [];
  for await (const piece of readSealedFile(path, place)) pieces.push(piece);
  return Buffer.concat(pieces);
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => "opened",
    (thrown: unknown) => toTidemarkError(thrown).code,
  );
}

void t.test("what was sealed opens, whatever its length", async (t) => {
  const lengths = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES];
  for (const length of [...lengths, 3 * CHUNK_BYTES + 17]) {
    const content = randomBytes(length);
    const bytes = sealed(content);
    t.ok((await opened(bytes)).equals(content), `${length} bytes`);
    const chunkCount = Math.max(1, Math.ceil(length / CHUNK_BYTES));
    t.equal(bytes.length, SEALED_HEADER_BYTES + length + chunkCount * TAG_BYTES);
  }
  const content = randomBytes(1000);
  t.notOk(sealed(content).equals(sealed(content)), "no file is encrypted like another");
});

function withFlippedBit(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes);
  copy.writeUInt8(copy.readUInt8(at) ^ 0x10, at);
  return copy;
}

/** The ways to damage a file of four chunks, and what each is answered. */
function damagesOf(content: Buffer): readonly (readonly [string, Buffer, string])[] {
  const bytes = sealed(content);
  const chunk = (index: number) =>
    bytes.subarray(
      SEALED_HEADER_BYTES + index * SEALED_CHUNK,
      SEALED_HEADER_BYTES + (index + 1) * SEALED_CHUNK,
    );
  const withChunks = (...indexes: number[]) =>
    Buffer.concat([bytes.subarray(0, SEALED_HEADER_BYTES), ...indexes.map(chunk)]);
  const cut = (length: number) => bytes.subarray(0, length);
  const flipped = (at: number) => withFlippedBit(bytes, at);
  return [
    ["nothing", Buffer.alloc(0), "TRUNCATED"],
    ["half a header", cut(20), "TRUNCATED"],
    ["a header alone", cut(SEALED_HEADER_BYTES), "CORRUPT"],
    ["cut within its last chunk", cut(bytes.length - 1), "CORRUPT"],
    ["cut within a tag", cut(SEALED_HEADER_BYTES + SEALED_CHUNK + 5), "CORRUPT"],
    ["cut at a chunk's end", withChunks(0, 1), "TRUNCATED"],
    ["a chunk left out", withChunks(0, 2, 3), "CORRUPT"],
    ["two chunks in another order", withChunks(1, 0, 2, 3), "CORRUPT"],
    ["a chunk twice", withChunks(0, 0, 1, 2, 3), "CORRUPT"],
    ["its last chunk in front", withChunks(3), "CORRUPT"],
    ["something behind its end", Buffer.concat([bytes, Buffer.alloc(1)]), "CORRUPT"],
    ["another magic", flipped(0), "CORRUPT"],
    ["another version", flipped(4), "VERSION_UNKNOWN"],
    ["another chunk size", flipped(6), "CORRUPT"],
    ["a flipped reserved bit", flipped(9), "CORRUPT"],
    ["a flipped bit of its salt", flipped(20), "CORRUPT"],
    ["a flipped bit of its content", flipped(SEALED_HEADER_BYTES + SEALED_CHUNK + 77), "CORRUPT"],
    ["a flipped bit of a tag", flipped(SEALED_HEADER_BYTES + CHUNK_BYTES + 3), "CORRUPT"],
    [
      "a chunk of another file",
      Buffer.concat([cut(SEALED_HEADER_BYTES), sealed(content).subarray(SEALED_HEADER_BYTES)]),
      "CORRUPT",
    ],
  ];
}

void t.test("T29 T35: what is damaged in any way does not open", async (t) => {
  const content = randomBytes(3 * CHUNK_BYTES + 5000);
  for (const [what, damaged, code] of damagesOf(content)) {
    t.equal(await codeOf(opened(damaged)), code, what);
  }
});

void t.test("T29: a file in another's place does not open", async (t) => {
  const bytes = sealed(randomBytes(5000));
  const places: readonly (readonly [string, Partial<SealedPlace>])[] = [
    ["another name", { name: "delta-000001/segment-00000001" }],
    ["another medium", { mediaId: "8f14e45f-ceea-467f-a8f2-1f0d6d1c7b12" }],
    ["another key", { key: randomBytes(32) }],
  ];
  for (const [what, place] of places) {
    t.equal(await codeOf(opened(bytes, { ...PLACE, ...place })), "CORRUPT", what);
  }
});

void t.test("a passphrase opens what it locked, and no other does", async (t) => {
  const passphrase = "korrektes Pferd, Batterie";
  const lock = await lockMedia(KEY, MEDIA_ID, { kind: "passphrase", passphrase });
  t.ok((await unlockMedia(lock, MEDIA_ID, { passphrase })).equals(KEY));
  t.equal(await codeOf(unlockMedia(lock, MEDIA_ID, { passphrase: `${passphrase} ` })), "FORBIDDEN");
  t.equal(await codeOf(unlockMedia(lock, MEDIA_ID, {})), "FORBIDDEN", "none at all");
  const other = "8f14e45f-ceea-467f-a8f2-1f0d6d1c7b12";
  t.equal(await codeOf(unlockMedia(lock, other, { passphrase })), "FORBIDDEN", "of another medium");
  const short = lockMedia(KEY, MEDIA_ID, { kind: "passphrase", passphrase: "short" });
  t.equal(await codeOf(short), "INVALID_ARGUMENT");
});

void t.test("a recipient's key opens what was made for it, and no other does", async (t) => {
  const pem = (key: { export(options: { type: string; format: string }): unknown }, type: string) =>
    String(key.export({ type, format: "pem" }));
  const x25519 = generateKeyPairSync("x25519");
  const p256 = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
  await createCa(join(directory, "ca"));
  const outputDirectory = join(directory, "pki");
  await issueCertificate(join(directory, "ca"), ["replica.example"], { outputDirectory });
  const files = ["host.crt", "host.key"].map((name) =>
    readFile(join(outputDirectory, name), "utf8"),
  );
  const [certificate = "", hostKey = ""] = await Promise.all(files);
  const recipients = [
    ["X25519", pem(x25519.publicKey, "spki"), pem(x25519.privateKey, "pkcs8")],
    ["P-256", pem(p256.publicKey, "spki"), pem(p256.privateKey, "pkcs8")],
    ["a host's certificate", certificate, hostKey],
  ] as const;
  for (const [what, publicPem, privatePem] of recipients) {
    const lock = await lockMedia(KEY, MEDIA_ID, { kind: "recipient", publicPem });
    t.ok((await unlockMedia(lock, MEDIA_ID, { privatePem })).equals(KEY), what);
    for (const [whose, , wrongPem] of recipients.filter(([other]) => other !== what)) {
      const code = await codeOf(unlockMedia(lock, MEDIA_ID, { privatePem: wrongPem }));
      t.equal(code, "FORBIDDEN", `${whose} for ${what}`);
    }
    t.equal(await codeOf(unlockMedia(lock, MEDIA_ID, {})), "FORBIDDEN", "none at all");
    const damaged = { ...lock, box: Buffer.alloc(48, 7).toString("base64") } as MediaLock;
    t.equal(await codeOf(unlockMedia(damaged, MEDIA_ID, { privatePem })), "FORBIDDEN");
  }
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
  for (const publicPem of [
    pem(rsa.publicKey, "spki"),
    pem(x25519.privateKey, "pkcs8"),
    "nonsense",
  ]) {
    const code = await codeOf(lockMedia(KEY, MEDIA_ID, { kind: "recipient", publicPem }));
    t.equal(code, "INVALID_ARGUMENT");
  }
});
