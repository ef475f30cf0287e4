/** A lane's thread: reads captures through the addon. */
import { openSegmentRecords } from "../tracking/segment-records.js";
import { runLane } from "../transport/lane.js";

runLane(openSegmentRecords);
