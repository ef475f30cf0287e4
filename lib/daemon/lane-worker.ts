/** A lane's thread: reads captures through the addon. */
import { newSegmentDigest } from "../tracking/segment-digest.js";
import { openSegmentRecords } from "../tracking/segment-records.js";
import { runLane } from "../transport/lane.js";

runLane(openSegmentRecords, newSegmentDigest);
