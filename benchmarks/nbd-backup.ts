/** What others bring the same content to another process with, over NBD on loopback. */
import { open, truncate } from "node:fs/promises";
import { join } from "node:path";
import { NbdClient } from "#lib/daemon/demo/nbd-client.js";
import { BenchError } from "./bench-error.js";
import { cpuSecondsOf, endedChildrenCpuSeconds } from "./cpu-time.js";
import { isInstalled, type Program } from "./program.js";
import { QemuMonitor } from "./qemu-monitor.js";
import type { Scope } from "./scope.js";
import { freePort, HOST } from "./servers.js";

const MIB = 2 ** 20;

export interface BackupPlace {
  readonly directory: string;
  readonly contentPath: string;
  readonly sizeBytes: number;
}

export interface BackupCost {
  readonly seconds: number;
  readonly senderCpu: number;
  readonly receiverCpu: number;
  /** Absent: not measured. */
  readonly sentRatio?: number;
}

const NBD_BACKUP_PROGRAMS = ["qemu-storage-daemon", "qemu-nbd", "nbdcopy", "ss"] as const;

export function missingBackupPrograms(): string[] {
  return NBD_BACKUP_PROGRAMS.filter((name) => !isInstalled(name));
}

/** QEMU's own: what its dirty bitmap has, to an NBD server. The content was written before, over NBD. */
export async function qemuIncrementalBackup(
  scope: Scope,
  { directory, contentPath, sizeBytes }: BackupPlace,
): Promise<BackupCost> {
  const port = await freePort();
  const receiver = await startReceiver(scope, join(directory, "target.raw"), sizeBytes, port);
  const [diskPath, nbd, qmp] = ["disk.raw", "nbd", "qmp"].map((name) => join(directory, name));
  await makeDisk(diskPath ?? "", sizeBytes);
  const sender = scope.start(storageDaemon(diskPath ?? "", nbd ?? "", qmp ?? ""));
  const uri = `nbd+unix:///disk?socket=${nbd ?? ""}`;
  await sender.until(() => NbdClient.connect(uri).then(closed, () => false));
  const monitor = await QemuMonitor.connect(qmp ?? "");
  try {
    await monitor.run("block-dirty-bitmap-add", { node: "disk", name: "changes" });
    await writeContent(uri, contentPath);
    const server = { type: "inet", host: HOST, port: String(port) };
    await monitor.run("blockdev-add", { driver: "nbd", "node-name": "target", server });
    return await costOf(sender, receiver, () => backUp(scope, monitor, port, sizeBytes));
  } finally {
    monitor.close();
  }
}

/** All of the content: nbdcopy knows no bitmap. */
export async function nbdCopy(
  scope: Scope,
  { directory, contentPath, sizeBytes }: BackupPlace,
): Promise<BackupCost> {
  const port = await freePort();
  const receiver = await startReceiver(scope, join(directory, "target.raw"), sizeBytes, port);
  const socket = join(directory, "source");
  const source = scope.start([
    "qemu-nbd",
    "--persistent",
    "--shared=8",
    "--read-only",
    "--format=raw",
    "--socket",
    socket,
    contentPath,
  ]);
  await source.until(() =>
    NbdClient.connect(`nbd+unix:///?socket=${socket}`).then(closed, () => false),
  );
  const before = await endedChildrenCpuSeconds();
  const cost = await costOf(source, receiver, async () => {
    const startedAtMs = performance.now();
    await scope.run([
      "nbdcopy",
      "--flush",
      `nbd+unix:///?socket=${socket}`,
      `nbd://${HOST}:${port}`,
    ]);
    return { seconds: (performance.now() - startedAtMs) / 1000 };
  });
  const copying = (await endedChildrenCpuSeconds()) - before;
  return { ...cost, senderCpu: cost.senderCpu + copying };
}

async function costOf(
  sender: Program,
  receiver: Program,
  work: () => Promise<Pick<BackupCost, "seconds" | "sentRatio">>,
): Promise<BackupCost> {
  const before = [await cpuSecondsOf(sender.pid), await cpuSecondsOf(receiver.pid)] as const;
  const done = await work();
  const senderCpu = (await cpuSecondsOf(sender.pid)) - before[0];
  const receiverCpu = (await cpuSecondsOf(receiver.pid)) - before[1];
  return { ...done, senderCpu, receiverCpu };
}

async function backUp(scope: Scope, monitor: QemuMonitor, port: number, sizeBytes: number) {
  const startedAtMs = performance.now();
  const job = { "job-id": "backup", device: "disk", target: "target" };
  const what = { sync: "incremental", bitmap: "changes", "auto-dismiss": false };
  await monitor.run("blockdev-backup", { ...job, ...what });
  await monitor.untilJob("backup", "concluded");
  const copiedAtMs = performance.now();
  const failures = JSON.stringify(await monitor.run("query-jobs"));
  if (failures.includes('"error"')) throw new BenchError(`Cannot back up: because ${failures}.`);
  const sentBytes = sentTo(port, await scope.run(["ss", "-tinH", `dport = :${port}`]));
  await monitor.run("job-dismiss", { id: "backup" });
  const closedFromMs = performance.now();
  // It flushes: a recovery point is durable, too.
  await monitor.run("blockdev-del", { "node-name": "target" });
  const closingMs = performance.now() - closedFromMs;
  const seconds = (copiedAtMs - startedAtMs + closingMs) / 1000;
  return { seconds, sentRatio: sentBytes / sizeBytes };
}

function sentTo(port: number, text: string): number {
  const sent = [...text.matchAll(/bytes_sent:(\d+)/g)].map(([, bytes]) => Number(bytes));
  if (sent.length > 0) return sent.reduce((sum, bytes) => sum + bytes, 0);
  throw new BenchError(`Cannot tell what was sent to port ${port}: because ss does not say.`);
}

function storageDaemon(diskPath: string, nbdSocket: string, qmpSocket: string): string[] {
  return [
    "qemu-storage-daemon",
    "--blockdev",
    `driver=file,node-name=file,filename=${diskPath}`,
    "--blockdev",
    "driver=raw,node-name=disk,file=file",
    "--chardev",
    `socket,id=qmp,path=${qmpSocket},server=on,wait=off`,
    "--monitor",
    "chardev=qmp",
    "--nbd-server",
    `addr.type=unix,addr.path=${nbdSocket}`,
    "--export",
    "type=nbd,id=disk,node-name=disk,name=disk,writable=on",
  ];
}

async function startReceiver(scope: Scope, path: string, sizeBytes: number, port: number) {
  await makeDisk(path, sizeBytes);
  const place = [`--bind=${HOST}`, `--port=${port}`, "--shared=8", "--discard=unmap"];
  const receiver = scope.start(["qemu-nbd", "--persistent", "--format=raw", ...place, path]);
  await receiver.until(async () => (await scope.run(["ss", "-tlnH", `sport = :${port}`])) !== "");
  return receiver;
}

async function makeDisk(path: string, sizeBytes: number): Promise<void> {
  await (await open(path, "wx")).close();
  await truncate(path, sizeBytes);
}

async function writeContent(uri: string, contentPath: string): Promise<void> {
  const client = await NbdClient.connect(uri);
  const content = await open(contentPath);
  try {
    let offset = 0;
    for await (const piece of content.createReadStream({ highWaterMark: MIB })) {
      await client.write(offset, Buffer.from(piece as Buffer));
      offset += (piece as Buffer).length;
    }
    await client.flush();
  } finally {
    client.close();
    await content.close();
  }
}

function closed(client: NbdClient): true {
  client.close();
  return true;
}
