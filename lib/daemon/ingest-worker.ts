/** An ingest thread: writes segments into layer files through the addon. */
import { openSegmentSink } from "../replica/segment-sink.js";
import { identifyClient } from "../security/peer-identity.js";
import { binding } from "../tracking/binding.js";
import { runIngest } from "../transport/ingest.js";

runIngest({
  openSink: openSegmentSink,
  identifyPeer: identifyClient,
  freeMemory: (bytes) => binding.freeMemory(bytes),
});
