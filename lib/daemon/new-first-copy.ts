import type { FirstCopyRequest } from "../management/first-copy-schemas.js";
import type { FirstCopy } from "../model/relationship.js";
import type { HostParts } from "./host-parts.js";

/** Null: over the network. */
export async function newFirstCopy(
  { firstCopies }: HostParts,
  vmName: string,
  request: FirstCopyRequest,
): Promise<FirstCopy | null> {
  if (request.by === "network") return null;
  if (request.by === "seed") return { by: "seed" };
  return firstCopies.createMedium(request.directory, vmName, request.protection);
}
