import { join } from "node:path";
import type { SegmentReceipt, SegmentSink } from "../model/delta.js";
import { TidemarkError } from "../model/errors.js";
import {
  FIRST_SEGMENT_DIGEST,
  type NewSegmentDigest,
  type SegmentDigest,
  type SegmentDigestKind,
} from "../model/segment-digest.js";
import type { NativeLayerBinding, NativeLayerSegmentWriter } from "../tracking/layer-binding.js";
import { SEGMENT_DOCUMENT } from "./documents.js";
import { writeDocument } from "./durable-document.js";
import type { StoreFiles } from "./store-files.js";
import { segmentFileName, stagedLayer } from "./store-paths.js";

/** What a slot tells the thread that fills it. */
export interface SegmentPlace {
  readonly deltaId: string;
  readonly segmentIndex: number;
  /** Counts the reservations of the delta: a retried segment is another arrival. */
  readonly arrival: number;
  /** Of the delta; holds its layer files and the records of its segments. */
  readonly directory: string;
  /** The part of the layer file, whichever disk's it is, that is this segment's alone. */
  readonly regionOffsetBytes: number;
  readonly capacityBytes: number;
  /** Absent: SHA-256. */
  readonly digest?: SegmentDigestKind | undefined;
  readonly disks: readonly { readonly sizeBytes: number; readonly granularityBytes: number }[];
}

/** The part of tracking's SegmentDecoder that the sink needs. */
export interface RecordDecoder {
  readonly header: {
    readonly deltaId: string;
    readonly diskIndex: number;
    readonly segmentIndex: number;
    readonly granularityBytes: number;
  } | null;
  push(chunk: Uint8Array): Iterable<DecodedRecord>;
  finish(): void;
}

export type DecodedRecord =
  | { readonly type: "data"; readonly offsetBytes: number; readonly data: Uint8Array }
  | { readonly type: "zero"; readonly offsetBytes: number; readonly lengthBytes: number };

export interface SinkTools {
  readonly native: Pick<NativeLayerBinding, "layerSegmentWriter">;
  readonly newDecoder: () => RecordDecoder;
  readonly newDigest: NewSegmentDigest;
  readonly files: StoreFiles;
}

interface OpenedDisk {
  readonly index: number;
  readonly sizeBytes: number;
  readonly writer: NativeLayerSegmentWriter;
}

/**
 * Files one segment's blocks in the layer file of its disk. The stream says
 * itself which disk that is; it is believed only as far as it fits the slot.
 */
export class LayerSegmentSink implements SegmentSink {
  readonly #place: SegmentPlace;
  readonly #tools: SinkTools;
  readonly #decoder: RecordDecoder;
  readonly #digest: SegmentDigest;
  #disk: OpenedDisk | null = null;
  #recordBytes = 0;
  #dataBytes = 0;
  #zeroBytes = 0;
  #failure: unknown = null;

  constructor(place: SegmentPlace, tools: SinkTools) {
    this.#place = place;
    this.#tools = tools;
    this.#decoder = tools.newDecoder();
    this.#digest = tools.newDigest(place.digest ?? FIRST_SEGMENT_DIGEST);
  }

  write(recordBytes: Uint8Array): undefined {
    if (this.#failure !== null) throw this.#failure;
    try {
      this.#digest.update(recordBytes);
      this.#recordBytes += recordBytes.byteLength;
      for (const record of this.#decoder.push(recordBytes)) this.#file(record);
    } catch (thrown) {
      this.#failure = thrown;
      throw thrown;
    }
  }

  async finish(): Promise<Omit<SegmentReceipt, "wireBytes">> {
    if (this.#failure !== null) throw this.#failure;
    this.#decoder.finish();
    const disk = this.#openedDisk();
    const index = await disk.writer.finish();
    const receipt = {
      segmentIndex: this.#place.segmentIndex,
      sha256: this.#digest.finish(),
      dataBytes: this.#dataBytes,
      zeroBytes: this.#zeroBytes,
    };
    await this.#record(disk.index, receipt, index.toString("base64"));
    this.#failure = closed();
    return receipt;
  }

  async abort(): Promise<void> {
    this.#failure ??= closed();
    await this.#disk?.writer.close();
  }

  #file(record: DecodedRecord): void {
    const disk = this.#openedDisk();
    const lengthBytes = record.type === "data" ? record.data.byteLength : record.lengthBytes;
    const endBytes = record.offsetBytes + lengthBytes;
    if (endBytes > disk.sizeBytes) throw this.#misfit("a record reaches beyond the disk's end");
    if (record.type === "data") {
      disk.writer.append(record.offsetBytes, record.data);
      this.#dataBytes += lengthBytes;
    } else {
      disk.writer.zero(record.offsetBytes, lengthBytes);
      this.#zeroBytes += lengthBytes;
    }
  }

  #openedDisk(): OpenedDisk {
    this.#disk ??= this.#open();
    return this.#disk;
  }

  #open(): OpenedDisk {
    const { header } = this.#decoder;
    const place = this.#place;
    if (header?.deltaId !== place.deltaId) throw this.#misfit("it is of another delta");
    if (header.segmentIndex !== place.segmentIndex) {
      throw this.#misfit(`it calls itself segment ${header.segmentIndex}`);
    }
    const disk = place.disks[header.diskIndex];
    if (disk === undefined) throw this.#misfit(`the VM has no disk ${header.diskIndex}`);
    if (disk.granularityBytes !== header.granularityBytes) {
      throw this.#misfit(`its granularity is ${header.granularityBytes}`);
    }
    const writer = this.#tools.native.layerSegmentWriter(
      stagedLayer(place.directory, header.diskIndex),
      place.regionOffsetBytes,
      place.capacityBytes,
      header.granularityBytes,
    );
    return { index: header.diskIndex, sizeBytes: disk.sizeBytes, writer };
  }

  async #record(
    diskIndex: number,
    receipt: Omit<SegmentReceipt, "wireBytes">,
    index: string,
  ): Promise<void> {
    const { deltaId, segmentIndex, arrival, directory, ...place } = this.#place;
    const path = join(directory, segmentFileName(segmentIndex, arrival));
    await writeDocument(this.#tools.files, SEGMENT_DOCUMENT, path, {
      deltaId,
      diskIndex,
      receipt,
      recordBytes: this.#recordBytes,
      regionOffsetBytes: place.regionOffsetBytes,
      capacityBytes: place.capacityBytes,
      index,
    });
  }

  #misfit(reason: string): TidemarkError {
    const { segmentIndex, deltaId } = this.#place;
    return new TidemarkError(
      "CORRUPT",
      `Cannot file segment ${segmentIndex} of delta ${deltaId}: because ${reason}.`,
    );
  }
}

function closed(): TidemarkError {
  return new TidemarkError("CLOSED", "Cannot use the segment: because it has ended.");
}
