import type { HostStatus } from "../../management/schemas.js";
import type { HostParts } from "../host-parts.js";
import { describeAll } from "./describe-vm.js";

export async function describeHost(parts: HostParts): Promise<HostStatus> {
  const { configuration, peerServer, startedAtMs, ioEngine, version, settings } = parts;
  return {
    hostName: configuration.hostName,
    version,
    processId: process.pid,
    startedAtMs,
    peerAddress: peerServer === null ? null : `${configuration.peers.host}:${peerServer.port}`,
    acceptsReplicas: settings.values.acceptsReplicas,
    replicaRoot: parts.replicaRoot,
    maintenanceSinceMs: parts.maintenance.sinceMs,
    ioEngine,
    vms: await describeAll(parts),
  };
}
