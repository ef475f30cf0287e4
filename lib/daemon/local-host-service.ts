import type { HostService } from "../management/host-service.js";
import type { ReplicationEvent } from "../model/relationship.js";
import { EventQueue } from "./event-queue.js";
import { bitmapHandlers } from "./handlers/bitmap-handlers.js";
import { bulkHandlers } from "./handlers/bulk-handlers.js";
import { copyHandlers } from "./handlers/copy-handlers.js";
import { configurationHandlers } from "./handlers/configuration-handlers.js";
import { diskHandlers } from "./handlers/disk-handlers.js";
import { extendedHandlers } from "./handlers/extended-handlers.js";
import { targetHandlers } from "./handlers/target-handlers.js";
import { failoverHandlers } from "./handlers/failover-handlers.js";
import { firstCopyHandlers } from "./handlers/first-copy-handlers.js";
import { groupFailoverHandlers } from "./handlers/group-failover-handlers.js";
import { groupHandlers } from "./handlers/group-handlers.js";
import { hostHandlers } from "./handlers/host-handlers.js";
import { peerHandlers } from "./handlers/peer-handlers.js";
import { planHandlers } from "./handlers/plan-handlers.js";
import { pointHandlers } from "./handlers/point-handlers.js";
import { relationshipHandlers } from "./handlers/relationship-handlers.js";
import { statisticsHandlers } from "./handlers/statistics-handlers.js";
import { testFailoverHandlers } from "./handlers/test-failover-handlers.js";
import { verificationHandlers } from "./handlers/verification-handlers.js";
import { retentionHandlers } from "./handlers/retention-handlers.js";
import { vmHandlers } from "./handlers/vm-handlers.js";
import type { HostParts } from "./host-parts.js";

/** The management API's functions over the parts of a running host, by topic in handlers/. */
export function localHostService(parts: HostParts): HostService {
  return {
    ...hostHandlers(parts),
    ...vmHandlers(parts),
    ...relationshipHandlers(parts),
    ...diskHandlers(parts),
    ...groupHandlers(parts),
    ...groupFailoverHandlers(parts),
    ...bitmapHandlers(parts),
    ...pointHandlers(parts),
    ...failoverHandlers(parts),
    ...extendedHandlers(parts),
    ...targetHandlers(parts),
    ...testFailoverHandlers(parts),
    ...planHandlers(parts),
    ...firstCopyHandlers(parts),
    ...peerHandlers(parts),
    ...bulkHandlers(parts),
    ...statisticsHandlers(parts),
    ...copyHandlers(parts),
    ...verificationHandlers(parts),
    ...configurationHandlers(parts),
    ...retentionHandlers(parts),
    events: (signal) => eventsOf(parts, signal),
  };
}

async function* eventsOf(
  { engine }: HostParts,
  signal: AbortSignal,
): AsyncGenerator<ReplicationEvent> {
  const queue = new EventQueue<ReplicationEvent>();
  const unsubscribe = engine.subscribe((event) => queue.push(event));
  signal.addEventListener("abort", () => queue.end(), { once: true });
  try {
    yield* queue;
  } finally {
    unsubscribe();
  }
}
