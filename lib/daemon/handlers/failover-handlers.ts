import type { z } from "zod";
import type { cancelRequest } from "../../management/failover-schemas.js";
import type { FAILOVER_ROUTES } from "../../management/routes/failover-routes.js";
import type { VmStatus } from "../../management/schemas.js";
import { TidemarkError } from "../../model/errors.js";
import type { HostParts } from "../host-parts.js";
import type { VmDefinition } from "../open-vm-disks.js";
import { plannedFailover } from "../planned-failover.js";
import { requireShutDown } from "../require-shut-down.js";
import { requireSilentPrimary } from "../require-silent-primary.js";
import { reverseReplication } from "../reverse-replication.js";
import { describePrimary, describeReplica } from "./describe-vm.js";
import { findPrimary, findReplica } from "./find-vm.js";
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
      const definition = findPrimary(parts, vm);
      await plannedFailover(parts, definition, force);
      return describePrimary(parts, definition);
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
  const definition = vms.find(vm);
  if (definition !== null && isGivenAway(parts, definition)) {
    const { vmId } = definition;
    await (withoutReplica ? engine.takeBackAlone(vmId) : engine.takeBack(vmId));
    return describePrimary(parts, definition);
  }
  if (withoutReplica) throw isTheReplica(vm);
  if (definition !== null && !force) {
    await requireShutDown(parts, definition, "cancel the failover");
  }
  const { vmId } = await findReplica(parts, vm);
  await failovers.cancel(vmId);
  return describeReplica(parts, await findReplica(parts, vmId));
}

/** To its replica, or almost: that is what is cancelled, and not how the VM came here. */
function isGivenAway({ engine }: HostParts, { vmId, isPromoted }: VmDefinition): boolean {
  if (isPromoted !== true) return true;
  return (
    engine.has(vmId) && ["handing-over", "failed-over"].includes(engine.standingOf(vmId).state)
  );
}

function isTheReplica(vm: string): TidemarkError {
  return new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot take ${vm} back without its replica: because this host has the replica.`,
    { hint: "Give that order on the host that began the planned failover." },
  );
}
