/** Orders to real hosts by the command line, and what becomes of their VMs. */
import { randomBytes } from "node:crypto";
import type { Test } from "tap";
import { NbdClient } from "#lib/daemon/demo/nbd-client.js";
import type { VmStatus } from "#lib/management/schemas.js";
import { eventually, type LoopbackHost } from "./loopback-host.js";
import { tidemark } from "./program.js";

export const BLOCK = 4096;

function order({ paths }: LoopbackHost, args: readonly string[]) {
  return tidemark("--dir", paths.directory, ...args);
}

/** What is answered; it is done. */
export async function said(
  t: Test,
  host: LoopbackHost,
  ...args: readonly string[]
): Promise<string> {
  const { exitCode, stdout, stderr } = await order(host, args);
  t.same([exitCode, stderr], [0, ""], args.join(" "));
  return stdout;
}

/** Why it is not done. */
export async function refused(
  t: Test,
  host: LoopbackHost,
  ...args: readonly string[]
): Promise<string> {
  const { exitCode, stderr } = await order(host, args);
  t.equal(exitCode, 1, args.join(" "));
  return stderr;
}

/** By a planned failover, begun as soon as the guest's connections have ended. */
export async function handedOver(from: LoopbackHost, vm: string): Promise<void> {
  await eventually("the guest's end", async () => {
    return (await order(from, ["vm", "planned-failover", vm])).exitCode === 0;
  });
}

export async function stateIs(host: LoopbackHost, vm: string, state: string): Promise<VmStatus> {
  return eventually(`${vm} ${state}`, async () => {
    const status = await host.vm(vm);
    return status.relationship?.state === state && status;
  });
}

/** Its guest may reach the disks there. */
export async function runsOn(host: LoopbackHost, vm: string): Promise<VmStatus> {
  return eventually(`${vm} there`, async () => {
    const status = await host.vm(vm).catch(() => null);
    return status?.role === "primary" && status.disks[0]?.uri !== null && status;
  });
}

/** Of its first disk, as it is served. */
export async function contentOf(vm: VmStatus): Promise<Buffer> {
  const client = await NbdClient.connect(vm.disks[0]?.uri ?? "");
  try {
    return Buffer.from(await client.read(0, client.sizeBytes));
  } finally {
    client.close();
  }
}

/** Acknowledged, and no more than that: nothing is flushed. */
export async function writeTo(
  vm: VmStatus,
  block: number,
  data: Buffer = randomBytes(BLOCK),
): Promise<void> {
  const client = await NbdClient.connect(vm.disks[0]?.uri ?? "");
  await client.write(block * BLOCK, data);
  client.close();
}
