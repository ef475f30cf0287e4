/** What is served is closed, whatever fails on the way. */
import t from "tap";
import type { ServedVm } from "#lib/daemon/served-vm.js";
import { ServingVms } from "#lib/daemon/serving-vms.js";

/** Two disks, the first of which may fail to close. */
function vmThat(done: string[], name: string, failure: Error | null): ServedVm {
  const disk = (index: number) => ({
    native: { giveUp: () => undefined, upstream: () => null },
    close: async () => {
      done.push(`${name}${index}`);
      if (index === 0 && failure !== null) throw failure;
    },
  });
  return {
    disks: [disk(0), disk(1)],
    server: { close: async () => undefined },
    bitmaps: { close: async () => undefined },
    watch: { [Symbol.dispose]: () => undefined },
    mapWatch: { [Symbol.asyncDispose]: async () => undefined },
  } as unknown as ServedVm;
}

void t.test("one that does not close keeps no other from it", async (t) => {
  const done: string[] = [];
  const failures = [new Error("the first"), new Error("the second")];
  const serving = new ServingVms();
  const all = [
    Promise.resolve(vmThat(done, "a", failures[0] ?? null)),
    Promise.reject(new Error("never opened")),
    Promise.resolve(vmThat(done, "b", null)),
    Promise.resolve(vmThat(done, "c", failures[1] ?? null)),
  ];
  for (const [index, each] of all.entries()) serving.set(`${index}`, each);
  await t.rejects(serving.closeAll(), { message: "the first" });
  t.equal(serving.size, 0);
  t.same(done, ["a0", "a1", "b0", "b1", "c0", "c1"]);
});
