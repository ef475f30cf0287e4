/**
 * Named places at which a test ends the process as a crash would (SIGKILL).
 *
 * Armed by TIDEMARK_FAILPOINT="name:n": the n-th passage of `name` kills.
 * native/common/failpoint.h is the same for the data plane. Each thread counts
 * its own passages.
 */
const [armedName, count] = (process.env["TIDEMARK_FAILPOINT"] ?? "").split(":");
let passagesLeft = Number(count ?? "1");

export type FailpointName =
  | "put"
  | "sync"
  | "rename"
  | "acknowledge"
  | "in-doubt"
  | "commit"
  | "compared"
  | "clear"
  | "hand-over.noted"
  | "hand-over.answered"
  | "withheld"
  | "succession"
  | "succeeded"
  | "promoted"
  | "taken-over"
  | "given-away.noted"
  | "given-away.moved"
  | "disks.settled"
  | "returned.released"
  | "returned.adopted"
  | "returned.answered"
  | "media.put"
  | "media.commit"
  | "media.manifest"
  | "import.segment"
  | "import.commit"
  | "filter.added"
  | "filter.mirrored"
  | "filter.ordered"
  | "filter.switched";

export function failpoint(name: FailpointName): void {
  if (name !== armedName) return;
  passagesLeft -= 1;
  if (passagesLeft === 0) process.kill(process.pid, "SIGKILL");
}
