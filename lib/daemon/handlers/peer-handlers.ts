import type { PEER_ROUTES } from "../../management/routes/peer-routes.js";
import { acceptReplicas } from "../accept-replicas.js";
import type { HostParts } from "../host-parts.js";
import { describeHost } from "./describe-host.js";
import type { TopicHandlers } from "./topic-handlers.js";

export function peerHandlers(parts: HostParts): TopicHandlers<typeof PEER_ROUTES> {
  return {
    peerTest: ({ url, proxyUrl }) =>
      parts.peers.test({ replicaUrl: url, proxyUrl: proxyUrl ?? null }),
    hostAcceptReplicas: async ({ accepts }) => {
      await acceptReplicas(parts, accepts);
      return describeHost(parts);
    },
  };
}
