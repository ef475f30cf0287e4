import type { RELATIONSHIP_ROUTES } from "../../management/routes/relationship-routes.js";
import type { HostParts } from "../host-parts.js";
import { refuseScripts } from "../refuse-scripts.js";
import { requireScripts } from "../require-scripts.js";
import { settingsChange } from "../settings-change.js";
import { describeReplicated } from "./describe-vm.js";
import { findReplicated, type Replicated } from "./find-vm.js";
import type { TopicHandlers } from "./topic-handlers.js";

export function relationshipHandlers(parts: HostParts): TopicHandlers<typeof RELATIONSHIP_ROUTES> {
  const { engine, transfers, vms } = parts;
  const doneFor = async (vm: string | undefined, work: (found: Replicated) => Promise<void>) => {
    const found = await findReplicated(parts, vm);
    await work(found);
    return describeReplicated(parts, found);
  };
  return {
    vmSettings: (change, { vm }) =>
      doneFor(vm, async ({ vmId, relationshipId }) => {
        if (vms.find(vmId) === null) refuseScripts(change);
        await requireScripts(change);
        await engine.change(relationshipId, settingsChange(change));
      }),
    vmResync: (_body, { vm }) =>
      doneFor(vm, ({ relationshipId }) => engine.resynchronize(relationshipId)),
    initialStart: ({ startAtMs }, { vm }) =>
      doneFor(vm, ({ relationshipId }) => engine.startInitial(relationshipId, startAtMs)),
    initialCancel: (_body, { vm }) =>
      doneFor(vm, ({ relationshipId }) => engine.cancelInitial(relationshipId)),
    transferSettings: async () => transfers.settings,
    transferSettingsChange: async (change) => {
      await transfers.change(change);
      engine.checkTurns();
      return transfers.settings;
    },
  };
}
