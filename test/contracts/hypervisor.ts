import type { Test } from "tap";
import type { DiskFilter, Hypervisor, RunningVm, VmDisk, VmEvent } from "#lib/model/hypervisor.js";

/** A VM "web" with a raw disk and a qcow2 disk; a filter for the first is served, under its name. */
export interface HypervisorScene {
  readonly hypervisor: Hypervisor;
  readonly filter: DiskFilter;
  /** Another one over the same image. */
  readonly otherFilter: DiskFilter;
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** Somebody else takes the disk away from its filter. */
  bypass(diskName: string): Promise<void>;
  /** The VM ends. */
  stop(): Promise<void>;
}

const never = new AbortController().signal;

export function hypervisorContract(
  t: Test,
  name: string,
  make: (t: Test) => Promise<HypervisorScene>,
): Promise<unknown> {
  return t.test(`hypervisor contract: ${name}`, async (t) => {
    for (const [title, rule] of Object.entries(RULES)) {
      await t.test(title, async (t) => {
        const scene = await make(t);
        await using vm = await scene.hypervisor.connect("web", never);
        await rule(t, scene, vm);
      });
    }
  });
}

async function rootOf(vm: RunningVm, root: string): Promise<VmDisk | undefined> {
  return (await vm.disks(never)).find(({ name }) => name === root);
}

async function goesByImage(t: Test, vm: RunningVm, filter: DiskFilter): Promise<void> {
  t.match(await rootOf(vm, filter.exportName), {
    imagePath: filter.imagePath,
    format: "raw",
    filter: null,
  });
}

async function goesByFilter(t: Test, vm: RunningVm, filter: DiskFilter): Promise<void> {
  const { socketPath, exportName } = filter;
  t.match(await rootOf(vm, filter.exportName), {
    imagePath: null,
    filter: { socketPath, exportName },
  });
}

/** The first so many, with what `act` does while they are listened for. */
async function eventsWhile(
  vm: RunningVm,
  count: number,
  act: () => Promise<void>,
): Promise<VmEvent[]> {
  const found: VmEvent[] = [];
  const events = vm.events(never);
  const acted = act();
  for await (const event of events) {
    found.push(event);
    if (found.length === count) break;
  }
  await acted;
  return found;
}

type Rule = (t: Test, scene: HypervisorScene, vm: RunningVm) => Promise<void>;

const RULES: Readonly<Record<string, Rule>> = {
  "inserted and removed, again and again; twice is once": async (t, { filter }, vm) => {
    await goesByImage(t, vm, filter);
    for (let round = 0; round < 2; round++) {
      await vm.insertFilter(filter.exportName, filter, never);
      await goesByFilter(t, vm, filter);
      await vm.insertFilter(filter.exportName, filter, never);
      await goesByFilter(t, vm, filter);
      await vm.removeFilter(filter.exportName, filter, never);
      await goesByImage(t, vm, filter);
      await vm.removeFilter(filter.exportName, filter, never);
      await goesByImage(t, vm, filter);
    }
  },

  "who comes later finds it inserted": async (t, { hypervisor, filter }, vm) => {
    await vm.insertFilter(filter.exportName, filter, never);
    await vm.close();
    await t.rejects(vm.disks(never), { code: "CLOSED" });
    await using later = await hypervisor.connect("web", never);
    await goesByFilter(t, later, filter);
    await later.removeFilter(filter.exportName, filter, never);
    await goesByImage(t, later, filter);
  },

  "orders given at once are done in turn": async (t, { filter }, vm) => {
    await Promise.all([
      vm.insertFilter(filter.exportName, filter, never),
      vm.removeFilter(filter.exportName, filter, never),
      vm.insertFilter(filter.exportName, filter, never),
    ]);
    await goesByFilter(t, vm, filter);
  },

  "what cannot be is refused, and the guest goes on as before": async (t, scene, vm) => {
    const { filter, otherFilter } = scene;
    const insert = (name: string, other: Partial<DiskFilter> = {}) =>
      vm.insertFilter(name, { ...filter, ...other }, never);
    const qcow2 = (await vm.disks(never)).find(({ format }) => format === "qcow2")?.name ?? "";
    await t.rejects(insert("none"), { code: "NOT_FOUND" });
    await t.rejects(insert(qcow2), { code: "UNSUPPORTED", message: /because it is qcow2/ });
    await t.rejects(insert(filter.exportName, { imagePath: "/elsewhere" }), { code: "CONFLICT" });
    const socketPath = `${filter.socketPath}.none`;
    await t.rejects(insert(filter.exportName, { socketPath }), { code: "UNREACHABLE" });
    await goesByImage(t, vm, filter);
    await insert(filter.exportName);
    await t.rejects(insert(filter.exportName, otherFilter), { code: "CONFLICT" });
    await t.rejects(vm.removeFilter(filter.exportName, otherFilter, never), { code: "CONFLICT" });
    await goesByFilter(t, vm, filter);
    await t.rejects(scene.hypervisor.connect("unknown", never), { code: "NOT_FOUND" });
  },

  "nothing begins when the signal has aborted before": async (t, { filter }, vm) => {
    const aborted = AbortSignal.abort(new Error("enough"));
    await t.rejects(vm.insertFilter(filter.exportName, filter, aborted), { message: "enough" });
    await goesByImage(t, vm, filter);
    await vm.insertFilter(filter.exportName, filter, never);
    await t.rejects(vm.removeFilter(filter.exportName, filter, aborted), { message: "enough" });
    await goesByFilter(t, vm, filter);
    await t.rejects(vm.disks(aborted), { message: "enough" });
  },

  "a VM that is paused, resumed and stopped tells": async (t, scene, vm) => {
    await scene.resume();
    const events = await eventsWhile(vm, 3, async () => {
      await scene.pause();
      await scene.resume();
      await scene.stop();
    });
    t.same(events, [{ kind: "paused" }, { kind: "resumed" }, { kind: "stopped" }]);
    await t.rejects(vm.disks(never), { code: "UNREACHABLE" });
    await t.rejects(scene.hypervisor.connect("web", never), { code: "UNREACHABLE" });
  },

  "a bypass is noticed; what was ordered here is none": async (t, scene, vm) => {
    const { filter } = scene;
    const events = vm.events(never)[Symbol.asyncIterator]();
    await vm.insertFilter(filter.exportName, filter, never);
    await vm.removeFilter(filter.exportName, filter, never);
    await vm.insertFilter(filter.exportName, filter, never);
    await scene.bypass(filter.exportName);
    t.equal((await rootOf(vm, filter.exportName))?.filter, null);
    t.same((await events.next()).value, { kind: "bypassed", diskName: filter.exportName });
    await scene.stop();
    t.same((await events.next()).value, { kind: "stopped" });
    t.equal((await events.next()).done, true);
  },

  "events end with the signal, and with the VM's closing": async (t, _scene, vm) => {
    const stop = new AbortController();
    const found: VmEvent[] = [];
    const listen = async (signal: AbortSignal) => {
      for await (const event of vm.events(signal)) found.push(event);
    };
    const listening = [listen(stop.signal), listen(never)];
    stop.abort();
    await listening[0];
    await vm.close();
    await listening[1];
    t.same(found, []);
  },
};
