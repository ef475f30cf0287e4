/** A thread for large files of first copies: reads captures and existing disks through the addon. */
import { runMediumThread } from "../media/medium-thread.js";
import { fillFromFile } from "../replica/fill-from-file.js";
import { openSegmentSink } from "../replica/segment-sink.js";
import { SegmentDecoder } from "../tracking/segment-decoder.js";
import { openSegmentRecords } from "../tracking/segment-records.js";

runMediumThread({
  openRecords: openSegmentRecords,
  newReader: () => new SegmentDecoder(),
  openSink: openSegmentSink,
  fill: fillFromFile,
});
