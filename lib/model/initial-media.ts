/** A first copy that travels on a disk or tape instead of the network (docs/initial-copy.md). */
import type { ReplicaEndpoint } from "./replica-endpoint.js";
import type { SegmentReceiver } from "./segment-receiver.js";

/** Who can read a medium: who knows the passphrase, or who has the private key. */
export type MediaProtection =
  | { readonly kind: "passphrase"; readonly passphrase: string }
  /** X25519 or P-256: a public key, or a certificate that has one, PEM. */
  | { readonly kind: "recipient"; readonly publicPem: string };

/** What may open a medium. */
export interface MediaOpener {
  readonly passphrase?: string | undefined;
  /** PEM. */
  readonly privatePem?: string | undefined;
}

/** A medium that is being written: a replica that takes one point, in the same steps as any. */
export type WritableMedium = ReplicaEndpoint & AsyncDisposable;

/** The replica's own end, which takes a medium in by the steps that a primary takes. */
export interface ImportTarget extends ReplicaEndpoint, SegmentReceiver {
  /** The deltas that the VM's staging session has taken in, oldest first. NOT_FOUND. */
  stagedDeltaIds(vmId: string): Promise<readonly string[]>;
}
