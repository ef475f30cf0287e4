import { createHash } from "node:crypto";
import type { NewSegmentDigest, SegmentDigest } from "../model/segment-digest.js";
import { binding } from "./binding.js";

export const newSegmentDigest: NewSegmentDigest = (kind) =>
  kind === "sha256" ? ofAllBytes() : ofTheirXxh3();

function ofAllBytes(): SegmentDigest {
  const hash = createHash("sha256");
  return { update: (bytes) => void hash.update(bytes), finish: () => hash.digest("hex") };
}

function ofTheirXxh3(): SegmentDigest {
  const xxh3 = binding.xxh3();
  return {
    update: (bytes) => xxh3.update(bytes),
    finish: () => createHash("sha256").update(xxh3.digest()).digest("hex"),
  };
}
