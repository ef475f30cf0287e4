import { TidemarkError } from "../model/errors.js";
import type { HostParts } from "./host-parts.js";

/** Durable when it resolves. */
export async function acceptReplicas(
  { peerServer, settings }: Pick<HostParts, "peerServer" | "settings">,
  acceptsReplicas: boolean,
): Promise<void> {
  if (acceptsReplicas && peerServer === null) {
    throw new TidemarkError(
      "CONFLICT",
      "Cannot accept replicas: because this host does not listen for peers; another process had its port when it started.",
      { hint: "Give it a free port (peers.port in its host.json), and start it again." },
    );
  }
  await settings.update({ acceptsReplicas });
  if (acceptsReplicas) await peerServer?.grow();
}
