import { DELTA_FORMAT_VERSION } from "../model/delta.js";
import type { PeerDescription, PeerIdentity } from "../model/peer.js";
import { FIRST_SEGMENT_DIGEST, type SegmentDigestKind } from "../model/segment-digest.js";
import { CONTENT_CODINGS } from "./content-coding.js";
import { toErrorBody } from "./error-body.js";
import { PROTOCOL_VERSIONS } from "./limits.js";
import type { PeerReplica } from "./peer-dispatch.js";
import type { Hello } from "./peer-schemas.js";

export interface Greeter {
  /** What this peer may see; throws FORBIDDEN when it may see nothing. */
  readonly replicaFor: (peer: PeerIdentity) => PeerReplica;
  readonly describe?: ((peer: PeerIdentity) => Promise<PeerDescription>) | undefined;
  /** This peer, which may, has called for that VM. */
  readonly onContact?: ((vmId: string) => void) | undefined;
  /** That the sinks of its replicas can make. Default: the one that every host knows. */
  readonly segmentDigests?: readonly SegmentDigestKind[] | undefined;
}

/** Answered to every peer that the handshake lets in, also to one that may do nothing else. */
export async function hello(greeter: Greeter, peer: PeerIdentity): Promise<Hello> {
  const versions = {
    product: "tidemark" as const,
    protocolVersions: [...PROTOCOL_VERSIONS],
    deltaFormatVersions: [DELTA_FORMAT_VERSION],
    contentCodings: [...CONTENT_CODINGS],
    segmentDigests: [...(greeter.segmentDigests ?? [FIRST_SEGMENT_DIGEST])],
    commitsUnannounced: true,
  };
  const description = await greeter.describe?.(peer);
  if (description === undefined) return versions;
  return { ...versions, host: { ...description, refusal: refusalOf(greeter, peer) } };
}

/** Why it may not replicate here. */
function refusalOf({ replicaFor }: Greeter, peer: PeerIdentity) {
  try {
    replicaFor(peer);
    return null;
  } catch (thrown) {
    return toErrorBody(thrown);
  }
}
