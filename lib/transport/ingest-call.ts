/** What the ingest workers and the main thread of a replica say to each other. */
import type { SegmentReceipt } from "../model/delta.js";
import type { PeerIdentity, TlsMaterial } from "../model/peer.js";
import type { SegmentRequest, SegmentSlot } from "../model/segment-receiver.js";
import type { IngestLimits } from "./limits.js";
import type { PeerRouteName } from "./peer-routes.js";

/** Main thread to worker. */
export type WorkerCall =
  | {
      readonly op: "listen";
      readonly place: ListenPlace;
      readonly tls: TlsMaterial;
      readonly limits: IngestLimits;
    }
  | { readonly op: "renew"; readonly tls: TlsMaterial }
  | { readonly op: "close" };

/** A socket that was opened for the worker, which owns it from then on; or where to open one. */
export type ListenPlace =
  | { readonly fd: number }
  | { readonly host: string; readonly port: number };

/** Worker to main thread. */
export type MainCall =
  | {
      readonly op: "control";
      readonly peer: PeerIdentity;
      readonly route: PeerRouteName;
      /** Checked against the route's schema. */
      readonly args: object;
    }
  /** Whether the peer may replicate here at all. */
  | { readonly op: "admit"; readonly peer: PeerIdentity }
  | { readonly op: "reserve"; readonly peer: PeerIdentity; readonly request: SegmentRequest }
  | {
      readonly op: "complete";
      readonly peer: PeerIdentity;
      readonly slot: SegmentSlot;
      readonly receipt: SegmentReceipt;
    }
  | { readonly op: "abort"; readonly peer: PeerIdentity; readonly slot: SegmentSlot }
  | { readonly op: "warn"; readonly message: string };
