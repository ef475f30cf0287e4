import type { DiskGeometry } from "#lib/model/disk.js";
import type { NewRelationshipSettings } from "#lib/model/relationship-settings.js";

/** Small blocks: the rules are the same, the runs are short. */
export const GRANULARITY = 8;

export const VM_ID = "11111111-1111-4111-8111-111111111111";
export const TARGET_ID = "22222222-2222-4222-8222-222222222222";

export const DISKS: readonly DiskGeometry[] = [
  {
    diskId: "33333333-3333-4333-8333-333333333333",
    name: "vda",
    sizeBytes: 24 * GRANULARITY,
    granularityBytes: GRANULARITY,
  },
  {
    diskId: "44444444-4444-4444-8444-444444444444",
    name: "vdb",
    sizeBytes: 6 * GRANULARITY + 3,
    granularityBytes: GRANULARITY,
  },
];

/** Comes and goes. */
export const GUEST_DISK: DiskGeometry = {
  diskId: "55555555-5555-4555-8555-555555555555",
  name: "vdc",
  sizeBytes: 9 * GRANULARITY,
  granularityBytes: GRANULARITY,
};

export const SETTINGS: NewRelationshipSettings = {
  vmId: VM_ID,
  targetId: TARGET_ID,
  replicaUrl: "https://replica.example.com:4443",
  intervalMs: 1000,
  compression: 3,
};
