import type { VERIFICATION_ROUTES } from "../../management/routes/verification-routes.js";
import type { VerificationStatus } from "../../model/verification.js";
import type { Verifications } from "../../replica/verifications.js";
import type { HostParts } from "../host-parts.js";
import { describeReplicated } from "./describe-vm.js";
import { findReplica, findReplicated } from "./find-vm.js";
import type { TopicHandlers } from "./topic-handlers.js";

export function verificationHandlers(parts: HostParts): TopicHandlers<typeof VERIFICATION_ROUTES> {
  const afterwards = async (
    vm: string | undefined,
    act: (verifications: Verifications, vmId: string) => Promise<void> | void,
  ): Promise<VerificationStatus> => {
    const { verifications } = parts;
    const { vmId } = await findReplica(parts, vm);
    await act(verifications, vmId);
    return verifications.status(vmId);
  };
  return {
    verificationStatus: (_body, { vm }) => afterwards(vm, () => undefined),
    verificationStart: ({ pointSequence, isRepair }, { vm }) =>
      afterwards(vm, (verifications, vmId) => verifications.start(vmId, pointSequence, isRepair)),
    verificationPause: (_body, { vm }) =>
      afterwards(vm, (verifications, vmId) => verifications.pause(vmId)),
    verificationResume: (_body, { vm }) =>
      afterwards(vm, (verifications, vmId) => verifications.resume(vmId)),
    verificationStop: (_body, { vm }) =>
      afterwards(vm, (verifications, vmId) => verifications.stop(vmId)),
    comparisonStart: async ({ isRepair }, { vm }) => {
      const found = await findReplicated(parts, vm);
      await parts.engine.compare(found.relationshipId, isRepair);
      return describeReplicated(parts, found);
    },
    comparisonStop: async (_body, { vm }) => {
      const found = await findReplicated(parts, vm);
      await parts.engine.stopComparison(found.relationshipId);
      return describeReplicated(parts, found);
    },
  };
}
