import type { z } from "zod";
import type { cancelRequest } from "../../management/failover-schemas.js";
import type { FAILOVER_ROUTES } from "../../management/routes/failover-routes.js";
import type { VmStatus } from "../../management/schemas.js";
import { TidemarkError } from "../../model/errors.js";
import type { RelationshipStanding } from "../../replication/relationship-standing.js";
import type { HostParts } from "../host-parts.js";
import type { VmDefinition } from "../open-vm-disks.js";
import { plannedFailover } from "../planned-failover.js";
import { requireShutDown } from "../require-shut-down.js";
import { requireSilentPrimary } from "../require-silent-primary.js";
import { reverseReplication } from "../reverse-replication.js";
import { describePrimary, describeReplica, describeReplicated } from "./describe-vm.js";
import {
  findPrimary,
  findReplica,
  findReplicatedPrimary,
  type Replicated,
  replicationsOf,
} from "./find-vm.js";
import { choosePoint } from "./open-point.js";
import type { TopicHandlers } from "./topic-handlers.js";

export function failoverHandlers(parts: HostParts): TopicHandlers<typeof FAILOVER_ROUTES> {
  const { failovers } = parts;
  return {
    failover: async ({ pointId, force }, { vm }) => {
      const chosen = await choosePoint(parts, vm, pointId);
      if (!force) await requireSilentPrimary(parts, chosen.vmId, chosen.pointId);
      await failovers.failOver(chosen.vmId, chosen.pointId);
      return describePrimary(parts, findPrimary(parts, chosen.vmId));
    },
    plannedFailover: async ({ force }, { vm }) => {
      const replicated = findReplicatedPrimary(parts, vm);
      const { vmId, relationshipId } = replicated;
      await plannedFailover(parts, findPrimary(parts, vmId), force, relationshipId);
      return describeReplicated(parts, replicated);
    },
    vmReverse: async (request, { vm }) => {
      const definition = findPrimary(parts, vm);
      await reverseReplication(parts, definition, request);
      return describePrimary(parts, definition);
    },
    failoverCommit: async (_body, { vm }) => {
      const definition = findPrimary(parts, vm);
      await failovers.commit(definition.vmId);
      return describePrimary(parts, definition);
    },
    failoverCancel: (request, { vm }) => cancelFailover(parts, request, vm ?? ""),
  };
}

/** On the replica; or of a planned one, on the primary. */
async function cancelFailover(
  parts: HostParts,
  { force, withoutReplica }: z.output<typeof cancelRequest>,
  vm: string,
): Promise<VmStatus> {
  const { failovers, engine, vms } = parts;
  const definition = vms.find(vm.split("@")[0] ?? "");
  if (definition !== null && isGivenAway(parts, definition)) {
    const replicated = givenAwayTo(parts, definition, vm);
    const { relationshipId: id } = replicated;
    await (withoutReplica ? engine.takeBackAlone(id) : engine.takeBack(id));
    return describeReplicated(parts, replicated);
  }
  if (withoutReplica) throw isTheReplica(vm);
  if (definition !== null && !force) {
    await requireShutDown(parts, definition, "cancel the failover");
  }
  const { vmId } = await findReplica(parts, vm);
  await failovers.cancel(vmId);
  return describeReplica(parts, await findReplica(parts, vmId));
}

/** To a replica, or almost: that is what is cancelled, and not how the VM came here. */
function isGivenAway({ engine }: HostParts, { vmId, isPromoted }: VmDefinition): boolean {
  if (isPromoted !== true) return true;
  return engine.idsOf(vmId).some((id) => isHandedOver(engine.standingOf(id)));
}

/** The target that was named, or the one that the VM was given to. */
function givenAwayTo(parts: HostParts, definition: VmDefinition, reference: string): Replicated {
  const { engine } = parts;
  const given = replicationsOf(parts, definition).find(
    ({ relationshipId: id }) => engine.has(id) && isHandedOver(engine.standingOf(id)),
  );
  if (given === undefined || reference.includes("@")) {
    return findReplicatedPrimary(parts, reference);
  }
  return given;
}

function isHandedOver({ state }: RelationshipStanding): boolean {
  return state === "handing-over" || state === "failed-over";
}

function isTheReplica(vm: string): TidemarkError {
  return new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot take ${vm} back without its replica: because this host has the replica.`,
    { hint: "Give that order on the host that began the planned failover." },
  );
}
