import type { Generation } from "../model/disk.js";
import type { RelationshipState } from "../model/relationship.js";

/** How this host stands to a VM's lineage at one of its targets. */
export interface RelationshipStanding {
  readonly state: RelationshipState;
  readonly generation: Generation;
  readonly holderId: string;
}
