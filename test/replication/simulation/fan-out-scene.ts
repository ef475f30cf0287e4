import type { FanOutHost, FanOutLeg } from "./fan-out-leg.js";
import type { Weather } from "./faults.js";
import type { Random } from "./random.js";
import type { VirtualClock } from "./virtual-clock.js";

export interface SimulatedHost extends FanOutHost {
  leg: FanOutLeg | null;
  readonly chosenWeather: Weather;
  /** By how much its wall clock is wrong. */
  skewMs: number;
}

/** What those who give orders know of the run. */
export interface FanOutScene {
  readonly hosts: readonly SimulatedHost[];
  readonly random: Random;
  readonly clock: VirtualClock;
  legs(): readonly FanOutLeg[];
  readonly count: (name: string) => void;
}
