import { DEFAULT_TRANSFER_SETTINGS, type TransferSettings } from "../model/transfer-settings.js";
import { CheckpointTurn } from "./checkpoint-turn.js";
import type { ReplicationPorts } from "./replication-ports.js";
import { WorkTurns } from "./work-turns.js";

/** What relationships with one replica wait for each other for. */
export interface ReplicaTurns {
  readonly cycles: WorkTurns;
  readonly copies: WorkTurns;
}

/**
 * What the relationships of a host wait for each other for. By replica, so that one which
 * does not answer holds up nobody else's.
 */
export class HostTurns {
  readonly checkpoint = new CheckpointTurn();
  readonly #limits: () => Pick<TransferSettings, "parallelCycles" | "parallelCopies">;
  readonly #byReplica = new Map<string, ReplicaTurns>();

  constructor({ transfers }: Pick<ReplicationPorts, "transfers">) {
    this.#limits = () => transfers?.() ?? DEFAULT_TRANSFER_SETTINGS;
  }

  at(replicaUrl: string): ReplicaTurns {
    const known = this.#byReplica.get(replicaUrl);
    if (known !== undefined) return known;
    const turns = {
      cycles: new WorkTurns(() => this.#limits().parallelCycles),
      copies: new WorkTurns(() => this.#limits().parallelCopies),
    };
    this.#byReplica.set(replicaUrl, turns);
    return turns;
  }

  /** The limits have changed. */
  check(): void {
    for (const { cycles, copies } of this.#byReplica.values()) {
      cycles.check();
      copies.check();
    }
  }
}
