import type { HostGroups } from "./host-groups.js";
import type { HostTurns } from "./host-turns.js";
import type { Thaws } from "./thaws.js";

/** What the relationships of a host have in common. */
export interface HostScope {
  readonly turns: HostTurns;
  readonly groups: HostGroups;
  readonly thaws: Thaws;
}
