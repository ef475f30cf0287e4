import type { SegmentPlan } from "../model/delta.js";
import type { FilePart, FillFromFile } from "../model/seed.js";
import type { SegmentSlot } from "../model/segment-receiver.js";
import type { OpenSegmentRecords } from "../transport/segment-job.js";
import { answerThreadCalls } from "../transport/thread-calls.js";
import { endWorkerThread, enterWorkerThread } from "../transport/worker-thread.js";
import type { MediumTools } from "./medium-segments.js";
import {
  readSegmentFile,
  type SegmentTarget,
  type SegmentToRead,
  sumOfFile,
  writeSegmentFile,
} from "./segment-file.js";

export type MediumCall =
  | {
      readonly op: "write";
      readonly deltaId: string;
      readonly plan: SegmentPlan;
      readonly target: SegmentTarget;
    }
  | { readonly op: "read"; readonly slot: SegmentSlot; readonly file: SegmentToRead }
  | { readonly op: "fill"; readonly slot: SegmentSlot; readonly part: FilePart }
  | { readonly op: "sum"; readonly path: string }
  /** Cancels what is under way. */
  | { readonly op: "close" };

export interface MediumThreadTools extends MediumTools {
  readonly openRecords: OpenSegmentRecords;
  readonly fill: FillFromFile;
}

/** The body of a worker thread of MediumThreads. */
export function runMediumThread({
  openRecords,
  newReader,
  openSink,
  fill,
}: MediumThreadTools): void {
  const port = enterWorkerThread();
  const cancelAll = answerThreadCalls(port, async (payload, signal) => {
    const call = payload as MediumCall;
    switch (call.op) {
      case "write": {
        const records = openRecords(call.plan, call.deltaId, signal);
        return writeSegmentFile(call.plan, records, call.target, newReader());
      }
      case "read":
        return readSegmentFile(call.file, call.slot, openSink, signal);
      case "fill":
        return fill(call.slot, call.part, signal);
      case "sum":
        return sumOfFile(call.path, signal);
      case "close":
        cancelAll();
        endWorkerThread(0);
        return undefined;
    }
  });
}
