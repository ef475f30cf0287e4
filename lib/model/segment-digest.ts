/** What a segment's digest may be made of (docs/formats/delta-stream.md); the best first. */
export const SEGMENT_DIGESTS = ["xxh3-128", "sha256"] as const;
export type SegmentDigestKind = (typeof SEGMENT_DIGESTS)[number];

/** What every host knows. */
export const FIRST_SEGMENT_DIGEST: SegmentDigestKind = "sha256";

export interface SegmentDigest {
  update(recordBytes: Uint8Array): void;
  /** A SHA-256 in hex, whatever the kind. Once. */
  finish(): string;
}

export type NewSegmentDigest = (kind: SegmentDigestKind) => SegmentDigest;
