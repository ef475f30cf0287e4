import type { SegmentReceipt, SegmentSource } from "../model/delta.js";
import type { OpenSegmentSink, SegmentSlot } from "../model/segment-receiver.js";
import type { FileSum } from "./medium-files.js";
import {
  type RecordReader,
  readSegmentFile,
  type SegmentTarget,
  type SegmentToRead,
  sumOfFile,
  writeSegmentFile,
  type WrittenSegment,
} from "./segment-file.js";

/** The work on a medium's large files; MediumThreads does it in threads of its own. */
export interface MediumSegments extends AsyncDisposable {
  /** The file is whole and synced when it resolves; its name is not. */
  write(
    source: SegmentSource,
    target: SegmentTarget,
    signal?: AbortSignal,
  ): Promise<WrittenSegment>;
  /** Fills a slot of the store. */
  read(slot: SegmentSlot, file: SegmentToRead, signal?: AbortSignal): Promise<SegmentReceipt>;
  /** Of the file as it is. */
  sum(path: string, signal?: AbortSignal): Promise<FileSum>;
}

export interface MediumTools {
  readonly newReader: () => RecordReader;
  readonly openSink: OpenSegmentSink;
}

/** In the caller's thread, for sources without a capture: for tests. */
export class InlineMediumSegments implements MediumSegments {
  readonly #tools: MediumTools;

  constructor(tools: MediumTools) {
    this.#tools = tools;
  }

  write(
    source: SegmentSource,
    target: SegmentTarget,
    signal?: AbortSignal,
  ): Promise<WrittenSegment> {
    return writeSegmentFile(source.plan, source.records(signal), target, this.#tools.newReader());
  }

  read(slot: SegmentSlot, file: SegmentToRead, signal?: AbortSignal): Promise<SegmentReceipt> {
    return readSegmentFile(file, slot, this.#tools.openSink, signal);
  }

  sum(path: string, signal?: AbortSignal): Promise<FileSum> {
    return sumOfFile(path, signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}
