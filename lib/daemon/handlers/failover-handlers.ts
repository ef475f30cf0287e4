import type { z } from "zod";
import type { cancelRequest } from "../../management/failover-schemas.js";
import type { FAILOVER_ROUTES } from "../../management/routes/failover-routes.js";
import type { VmStatus } from "../../management/schemas.js";
import { TidemarkError } from "../../model/errors.js";
import type { HostParts } from "../host-parts.js";
import { plannedFailover } from "../planned-failover.js";
import { requireShutDown } from "../require-shut-down.js";
import { requireSilentPrimary } from "../require-silent-primary.js";
import { reverseReplication } from "../reverse-replication.js";
import { describePrimary, describeReplica, describeReplicated } from "./describe-vm.js";
import {
  findPrimary,
  findReplica,
  findReplicatedPrimary,
  primaryReplication,
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
      await plannedFailover(parts, findPrimary(parts, vmId), relationshipId, force);
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
  const given = handedOver(parts, vm);
  if (given !== null) {
    const { relationshipId: id } = given;
    await (withoutReplica ? engine.takeBackAlone(id) : engine.takeBack(id));
    return describeReplicated(parts, given);
  }
  if (withoutReplica) throw isTheReplica(vm);
  const definition = vms.find(vm);
  if (definition !== null && !force) {
    await requireShutDown(parts, definition, "cancel the failover");
  }
  const { vmId } = await findReplica(parts, vm);
  await failovers.cancel(vmId);
  return describeReplica(parts, await findReplica(parts, vmId));
}

/**
 * To the target that was named, or to the one that has the VM, or is about to: that is what is
 * cancelled, and not how the VM came here. Null: a failover to this host is.
 */
function handedOver(parts: HostParts, reference: string): Replicated | null {
  const named = primaryReplication(parts, reference);
  if (named === null || named.relationshipId !== named.vmId) return named;
  const { vmId, isPromoted } = named;
  const id = parts.engine.givenAwayTo(vmId);
  if (id === null) return isPromoted === true ? null : named;
  const all = replicationsOf(parts, findPrimary(parts, vmId));
  return all.find(({ relationshipId }) => relationshipId === id) ?? named;
}

function isTheReplica(vm: string): TidemarkError {
  return new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot take ${vm} back without its replica: because this host has the replica.`,
    { hint: "Give that order on the host that began the planned failover." },
  );
}
