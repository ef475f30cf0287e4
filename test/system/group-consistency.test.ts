/**
 * T18 across VMs: dependent writes to two VMs of a consistency group. No two points of
 * one cut may hold write B on the second VM without write A on the first, which was
 * acknowledged before B was sent.
 *
 * TIDEMARK_SOAK=1 takes a thousand cuts.
 */
import t from "tap";
import { TrackedVm } from "#lib/tracking/tracked-vm.js";
import { ChainedDisks } from "../support/chained-disks.js";
import { GroupedVms } from "../support/grouped-vms.js";

const CUTS = process.env["TIDEMARK_SOAK"] === "1" ? 1000 : 40;

t.setTimeout(900_000);

void t.test("T18: no cut of a group holds a write without the one it followed", async (t) => {
  const scene = await ChainedDisks.start();
  t.teardown(() => scene.close());
  const vms = await GroupedVms.start(scene);
  t.teardown(() => vms.close());
  await vms.judge(CUTS, () => vms.faults.length > 0);
  t.same(vms.faults.slice(0, 10), []);
  t.ok(vms.inFlightCount >= CUTS * 0.9, `${vms.inFlightCount} were taken with writes in flight`);
  const status = vms.status();
  t.ok((status?.pauses.count ?? 0) >= CUTS, "and every pause is counted");
  t.comment(
    `${vms.judgedCount} cuts, ${scene.writeCount} writes, pauses p99 ${status?.pauses.p99Ns} ns`,
  );
});

void t.test("cuts of each VM by itself are caught", async (t) => {
  const scene = await ChainedDisks.start();
  t.teardown(() => scene.close());
  const oneAfterTheOther: typeof TrackedVm.checkpointTogether = async (members) => {
    const cuts = [];
    for (const member of members) cuts.push(...(await TrackedVm.checkpointTogether([member])));
    return cuts;
  };
  const vms = await GroupedVms.start(scene, oneAfterTheOther);
  t.teardown(() => vms.close());
  const isCaught = () => vms.faults.some((fault) => fault.includes("without its A"));
  await vms.judge(100, isCaught);
  t.ok(isCaught(), `the oracle says so after ${vms.judgedCount} cuts`);
});
