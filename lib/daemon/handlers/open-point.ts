import type { PointExportBody } from "../../management/schemas.js";
import { TidemarkError } from "../../model/errors.js";
import type { PointExport } from "../../model/replica-exports.js";
import type { HostParts } from "../host-parts.js";
import { exportBody } from "./describe-vm.js";
import { findReplica } from "./find-vm.js";

/** The point asked for, or the newest. CONFLICT while there is none. */
export async function choosePoint(
  parts: HostParts,
  vm: string | undefined,
  pointId: string | undefined,
): Promise<{ readonly vmId: string; readonly pointId: string }> {
  const { vmId, head } = await findReplica(parts, vm);
  const chosen = pointId ?? head?.pointId;
  if (chosen !== undefined) return { vmId, pointId: chosen };
  throw new TidemarkError(
    "CONFLICT",
    `Cannot open a recovery point of ${vm ?? ""}: because it has none yet.`,
    { hint: "Wait until the initial replication has ended." },
  );
}

export async function openPoint(
  parts: HostParts,
  vm: string | undefined,
  pointId: string | undefined,
  kind: PointExport["kind"],
): Promise<PointExportBody> {
  const chosen = await choosePoint(parts, vm, pointId);
  return exportBody(await parts.pointExports.openExport(chosen.vmId, chosen.pointId, kind));
}
