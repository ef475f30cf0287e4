import { DELTA_FORMAT_VERSION } from "../model/delta.js";
import { failpoint } from "../model/failpoint.js";
import type { ReplicaEndpoint } from "../model/replica-endpoint.js";
import type { SegmentReceiver } from "../model/segment-receiver.js";
import { PROTOCOL_VERSION } from "./limits.js";
import type { PeerArgs, PeerRouteName } from "./peer-routes.js";
import type { Hello } from "./peer-schemas.js";

/** What the network serves: the replica's store, as far as a peer may see it. */
export type PeerReplica = Omit<ReplicaEndpoint, "putSegment"> & SegmentReceiver;

type Handlers = {
  readonly [N in PeerRouteName]: (
    replica: PeerReplica,
    args: PeerArgs<N>,
    signal: AbortSignal,
  ) => Promise<unknown>;
};

const HELLO: Hello = {
  product: "tidemark",
  protocolVersions: [PROTOCOL_VERSION],
  deltaFormatVersions: [DELTA_FORMAT_VERSION],
};

const HANDLERS: Handlers = {
  hello: async () => HELLO,
  enable: (replica, { vm, generation }, signal) => replica.enable(vm, generation, signal),
  status: (replica, { vmId }, signal) => replica.status(vmId, signal),
  openStaging: (replica, { vmId, generation }, signal) =>
    replica.openStaging(vmId, generation, signal),
  openDelta: (replica, header, signal) => replica.openDelta(header, signal),
  commit: async (replica, request, signal) => {
    const point = await replica.commit(request, signal);
    failpoint("acknowledge");
    return point;
  },
  abandon: async (replica, { vmId, deltaId }, signal) => {
    await replica.abandon(vmId, deltaId, signal);
    return null;
  },
  points: (replica, { vmId }, signal) => replica.points(vmId, signal),
  blockHashes: async (replica, request, signal) =>
    Buffer.from(await replica.blockHashes(request, signal)).toString("base64"),
};

/** `args` have passed the route's schema. */
export function dispatchControl(
  replica: PeerReplica,
  route: PeerRouteName,
  args: object,
  signal: AbortSignal,
): Promise<unknown> {
  const handle = HANDLERS[route] as (
    replica: PeerReplica,
    args: object,
    signal: AbortSignal,
  ) => Promise<unknown>;
  return handle(replica, args, signal);
}
