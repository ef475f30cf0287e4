import type { ApiClient } from "../management/api-client.js";

/** On standard error: whoever opens a damaged point must know. */
export async function warnIfDamaged(client: ApiClient, vm: string, sequence: number) {
  const { damagedPoints } = await client.call("verificationStatus", {}, { vm });
  if (!damagedPoints.includes(sequence)) return;
  process.stderr.write(
    `tidemark: Recovery point ${sequence} is known to be damaged: \`tidemark vm verify ${vm} --status\` says where.\n`,
  );
}
