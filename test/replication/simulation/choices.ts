/** What a seed makes of a run. */
import type { Weather } from "./faults.js";
import type { Random } from "./random.js";
import { GRANULARITY } from "./scene.js";

export function chooseWeather(random: Random): Weather {
  return {
    network: random.pick([0, 0.02, 0.1, 0.3]),
    store: random.pick([0, 0, 0.02]),
    tracker: random.pick([0, 0, 0.02]),
    isReplicaDown: false,
    isReplicaFull: false,
  };
}

export function chooseLimits(random: Random) {
  return {
    segmentBytes: random.pick([1, 4, 16]) * GRANULARITY,
    parallelSegments: random.pick([1, 4]),
    passBytes: random.pick([8, 1000]) * GRANULARITY,
    closingBytes: random.pick([2, 8]) * GRANULARITY,
    captureBytes: random.pick([16, 1000]) * GRANULARITY,
  };
}

/** A disk on which about every second block is in use. */
export function halfFull(sizeBytes: number, random: Random): Uint8Array {
  const content = new Uint8Array(sizeBytes);
  for (let offset = 0; offset < sizeBytes; offset += GRANULARITY) {
    if (random.chance(0.5)) content.fill(0xaa, offset, offset + GRANULARITY);
  }
  return content;
}
