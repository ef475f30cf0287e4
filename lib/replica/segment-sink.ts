import type { OpenSegmentSink } from "../model/segment-receiver.js";
import { binding } from "../tracking/binding.js";
import { SegmentDecoder } from "../tracking/segment-decoder.js";
import { newSegmentDigest } from "../tracking/segment-digest.js";
import { LayerSegmentSink, type SegmentPlace, type SinkTools } from "./layer-segment-sink.js";
import { NodeStoreFiles } from "./node-store-files.js";

const TOOLS: SinkTools = {
  native: binding,
  newDecoder: () => new SegmentDecoder(),
  newDigest: newSegmentDigest,
  files: new NodeStoreFiles(),
};

/**
 * Opens a slot of a ReplicaStore. For worker threads: decoding, hashing and
 * writing are synchronous.
 */
export const openSegmentSink: OpenSegmentSink = async (slot) =>
  new LayerSegmentSink(slot.place as SegmentPlace, TOOLS);
