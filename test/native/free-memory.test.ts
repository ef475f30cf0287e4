import t from "tap";
import { binding } from "#lib/tracking/binding.js";

void t.test("a buffer's memory is given back at once, and only what is all its own", async (t) => {
  const own = Buffer.from(new Uint8Array(4096).fill(7).buffer);
  const memory = own.buffer;
  binding.freeMemory(own);
  t.equal(own.length, 0);
  t.equal(memory.byteLength, 0);
  binding.freeMemory(own);

  const shared = Buffer.alloc(4096, 7);
  const view = shared.subarray(1);
  binding.freeMemory(view);
  t.equal(view.length, 4095);
  t.ok(shared.every((byte) => byte === 7));
});
