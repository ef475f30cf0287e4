/**
 * The store's small files, read again: what memory holds of them was right when they
 * were read or written, so a file that differs by now was damaged since.
 */
import { relative } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { toTidemarkError } from "../model/errors.js";
import { BASE_DOCUMENT, POINT_MANIFEST, VM_DOCUMENT } from "./documents.js";
import { type DocumentFormat, readDocument, writeDocument } from "./durable-document.js";
import type { ScrubContext } from "./scrub-context.js";

export async function scrubDocuments(context: ScrubContext): Promise<void> {
  const { replica, upToSequence, signal } = context;
  const { paths, chain } = replica;
  const first = chain.shown()[0]?.point.sequence ?? 0;
  await check(context, VM_DOCUMENT, paths.vmFile, first, () => replica.document);
  await check(context, BASE_DOCUMENT, paths.baseFile, first, () =>
    chain.base.sequence === 0 && chain.base.mergingSequence === null ? undefined : chain.base,
  );
  const sequences = chain.shown().map(({ point }) => point.sequence);
  for (const sequence of sequences.filter((one) => one <= upToSequence)) {
    signal.throwIfAborted();
    await check(context, POINT_MANIFEST, paths.point(sequence), sequence, () =>
      chain.shown().find(({ point }) => point.sequence === sequence),
    );
  }
}

/** Under the VM's lock, so that neither side is being replaced. */
async function check<Body>(
  { tools, replica, findings, mends }: ScrubContext,
  format: DocumentFormat<Body>,
  path: string,
  pointSequence: number,
  known: () => Body | undefined,
): Promise<void> {
  await replica.lock.run(async () => {
    const expected = known();
    if (expected === undefined) return;
    const reason = await whatIsWrong(() => readDocument(tools.files, format, path), expected);
    if (reason === null) return;
    const file = relative(replica.paths.directory, path);
    if (mends) {
      await writeDocument(tools.files, format, path, expected);
      findings.mendedFiles.push(file);
      return;
    }
    const place = { diskId: null, diskName: null, extents: [] };
    findings.damage.push({ kind: "document", file, ...place, pointSequence, reason });
  });
}

async function whatIsWrong<Body>(
  read: () => Promise<Body>,
  expected: Body,
): Promise<string | null> {
  try {
    // As JSON knows it: without what is undefined.
    const known: unknown = JSON.parse(JSON.stringify(expected));
    return isDeepStrictEqual(await read(), known) ? null : "It is not the one that was written.";
  } catch (thrown) {
    return toTidemarkError(thrown).message;
  }
}
