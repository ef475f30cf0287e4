import { setTimeout as sleep } from "node:timers/promises";
import type { ApiClient } from "../management/api-client.js";
import type { VmStatus } from "../management/schemas.js";

const POLL_MS = 200;

/** A replica that does not answer is asked again for ever: what keeps it is said once. */
export async function handOverEnded(client: ApiClient, vmReference: string): Promise<VmStatus> {
  let said = "";
  for (;;) {
    const vm = await client.call("vmStatus", {}, { vm: vmReference });
    const { state, lastError } = vm.relationship ?? {};
    if (state !== "handing-over") return vm;
    const error = lastError?.message ?? "";
    if (error !== "" && error !== said) process.stderr.write(`Still under way: ${error}\n`);
    said = error;
    await sleep(POLL_MS);
  }
}
