import { systemClock } from "../replication/system-clock.js";
import { GroupFailovers } from "./group-failovers.js";
import type { GroupParts } from "./group-members.js";

/** Orders that fail more than one VM over. */
export interface FailoverOrders {
  readonly groupFailovers: GroupFailovers;
}

export function openFailoverOrders(parts: GroupParts): FailoverOrders {
  return { groupFailovers: new GroupFailovers(parts, systemClock) };
}
