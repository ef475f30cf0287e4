import { TidemarkError } from "../model/errors.js";

export function notReplicated(vmId: string): TidemarkError {
  return new TidemarkError(
    "NOT_FOUND",
    `Cannot find VM ${vmId}: because it is not replicated here.`,
    { hint: "Enable replication of the VM to this host." },
  );
}
