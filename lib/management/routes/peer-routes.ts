import * as peers from "../peer-schemas.js";
import { hostStatus } from "../schemas.js";
import { route } from "./route.js";

export const PEER_ROUTES = {
  peerTest: route(
    "POST",
    "/peers/test",
    peers.peerTestRequest,
    peers.peerTestReport,
    "Test step by step whether this host could replicate to another",
  ),
  hostAcceptReplicas: route(
    "POST",
    "/host/accept-replicas",
    peers.acceptReplicasRequest,
    hostStatus,
    "Turn on or off that peers may replicate to this host",
  ),
} as const;
