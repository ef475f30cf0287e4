import { createHash } from "node:crypto";
import type { SegmentReceipt } from "./delta.js";

/** SHA-256 over the segments' digests, hex; the receipts in the order of their indexes. */
export function deltaDigest(receipts: Iterable<SegmentReceipt>): string {
  const hash = createHash("sha256");
  for (const receipt of receipts) hash.update(receipt.sha256, "hex");
  return hash.digest("hex");
}
