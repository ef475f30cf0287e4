import type { SegmentReceipt, SegmentSource } from "../model/delta.js";
import type { OpenSegmentSink, SegmentSlot } from "../model/segment-receiver.js";

/** Writes what the source has into the slot's sink; a failure gives the sink up. */
export async function fillSlot(
  openSink: OpenSegmentSink,
  slot: SegmentSlot,
  source: SegmentSource,
  signal: AbortSignal | undefined,
): Promise<SegmentReceipt> {
  const sink = await openSink(slot);
  let wireBytes = 0;
  try {
    for await (const chunk of source.records(signal)) {
      signal?.throwIfAborted();
      wireBytes += chunk.byteLength;
      await sink.write(chunk);
    }
    return { ...(await sink.finish()), wireBytes };
  } catch (thrown) {
    await sink.abort();
    throw thrown;
  }
}
