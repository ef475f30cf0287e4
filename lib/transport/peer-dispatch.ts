import { failpoint } from "../model/failpoint.js";
import type { ReplicaEndpoint } from "../model/replica-endpoint.js";
import type { SegmentReceiver } from "../model/segment-receiver.js";
import type { PeerArgs, PeerRouteName } from "./peer-routes.js";

/** What the network serves: the replica's store, as far as a peer may see it. */
export type PeerReplica = Omit<ReplicaEndpoint, "putSegment"> & SegmentReceiver;

/** All but hello, which is no matter of the store's. */
export type StoreRouteName = Exclude<PeerRouteName, "hello">;

type Handlers = {
  readonly [N in StoreRouteName]: (
    replica: PeerReplica,
    args: PeerArgs<N>,
    signal: AbortSignal,
  ) => Promise<unknown>;
};

const HANDLERS: Handlers = {
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
  deleteVm: async (replica, { vmId, generation }, signal) => {
    await replica.deleteVm(vmId, generation, signal);
    return null;
  },
  succeed: (replica, succession, signal) => replica.succeed(succession, signal),
  takeReturned: (replica, request, signal) => replica.takeReturned(request, signal),
  points: (replica, { vmId }, signal) => replica.points(vmId, signal),
  blockHashes: async (replica, request, signal) =>
    Buffer.from(await replica.blockHashes(request, signal)).toString("base64"),
};

/** `args` have passed the route's schema. */
export function dispatchControl(
  replica: PeerReplica,
  route: StoreRouteName,
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
