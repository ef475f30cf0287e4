/** What this host tells peers of itself, and which of them may replicate here. */
import { statfs } from "node:fs/promises";
import { TidemarkError } from "../model/errors.js";
import { SEGMENT_DIGESTS } from "../model/segment-digest.js";
import type { ReplicaStore } from "../replica/replica-store.js";
import type { Greeter } from "../transport/hello.js";
import type { HostSettings } from "./host-settings.js";
import type { PrimaryContacts } from "./primary-contacts.js";
import type { Space } from "./space-shortage.js";

export interface GreetingHost {
  readonly contacts: PrimaryContacts;
  readonly hostName: string;
  readonly version: string;
  readonly settings: HostSettings;
  readonly store: ReplicaStore;
  readonly replicaRoot: string;
}

export function greetPeers(host: GreetingHost): Required<Greeter> {
  return {
    replicaFor: () => {
      if (host.settings.values.acceptsReplicas) return host.store;
      throw new TidemarkError(
        "FORBIDDEN",
        `Cannot replicate to ${host.hostName}: because it accepts no replicas.`,
        { hint: "Turn that on there: tidemark host accept-replicas on." },
      );
    },
    onContact: (vmId) => host.contacts.note(vmId),
    segmentDigests: SEGMENT_DIGESTS,
    describe: async () => ({
      hostName: host.hostName,
      softwareVersion: host.version,
      acceptsReplicas: host.settings.values.acceptsReplicas,
      freeBytes: (await spaceOf(host.replicaRoot)).freeBytes,
    }),
  };
}

/** Free: what a process without privileges may still use. */
export async function spaceOf(directory: string): Promise<Space> {
  const { bavail, blocks, bsize } = await statfs(directory);
  return { freeBytes: bavail * bsize, totalBytes: blocks * bsize };
}
