import type { GuestAccess } from "./guest-access.js";
import type { HostGroups } from "./host-groups.js";
import type { HostTurns } from "./host-turns.js";
import type { Thaws } from "./thaws.js";

/** What a relationship shares with others of its host. */
export interface HostScope {
  readonly turns: HostTurns;
  readonly groups: HostGroups;
  readonly thaws: Thaws;
  /** Of the relationship's own VM. */
  readonly guests: GuestAccess;
}
