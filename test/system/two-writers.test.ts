/**
 * Both sides of a VM are written to: behind a partition, by a primary that was stopped, by
 * one that was set back. Never do two write into one lineage, never is one thrown away.
 *
 * With TIDEMARK_SOAK=1 the primary is stopped for longer than any time-out of the hosts.
 */
import { randomBytes } from "node:crypto";
import { cp, copyFile } from "node:fs/promises";
import { connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import t, { type Test } from "tap";
import { readDisk } from "../support/journal-oracle.js";
import { LoopbackProxy } from "../support/loopback-proxy.js";
import {
  contentOfPoint,
  eventually,
  Guest,
  lastErrorOf,
  type LoopbackHost,
  pointsOf,
  replicated,
  startPair,
} from "../support/loopback-host.js";
import { NbdClient } from "../support/nbd-client.js";
import { scratchDirectory } from "../support/program.js";

const BLOCK = 4096;
/** The longest time-out is that of a client which hears nothing: 60 s. */
const STOPPED_MS = process.env["TIDEMARK_SOAK"] === "1" ? 75_000 : 0;

t.setTimeout(300_000);
const directory = await scratchDirectory(t);
const pair = await startPair(t, join(directory, "pair"));
const { primary, replica } = pair;
const primaryUrl = await primary.keepPort();
await primary.api.call("hostAcceptReplicas", { accepts: true });

/** A line to the replica that can be cut: nothing passes, and nothing that is open survives. */
class Line extends LoopbackProxy {
  #isCut = false;
  readonly #open: Set<Socket>;

  private constructor(server: Server, open: Set<Socket>) {
    super(server);
    this.#open = open;
  }

  static async to(port: number): Promise<Line> {
    const open = new Set<Socket>();
    const server = createServer((near) => {
      if (line.#isCut) return near.destroy();
      open.add(near);
      const far = connect({ host: "127.0.0.1", port });
      line.carry(near, far);
      near.pipe(far).pipe(near);
      return near;
    });
    const line = new Line(server, open);
    return line.listen();
  }

  get url(): string {
    return `https://127.0.0.1:${this.port}`;
  }

  cut(): void {
    this.#isCut = true;
    for (const socket of this.#open) socket.destroy();
    this.#open.clear();
  }

  mend(): void {
    this.#isCut = false;
  }
}

const line = await Line.to(Number(new URL(pair.replicaUrl).port));
t.teardown(() => line.close());

async function newVm(name: string): Promise<Guest> {
  const guest = await Guest.make(directory, name);
  await guest.enable(primary, line.url);
  await replicated(primary, name);
  return guest;
}

async function writeThere(name: string, block: number): Promise<void> {
  const { disks } = await replica.vm(name);
  const client = await NbdClient.connect(disks[0]?.uri ?? "");
  await client.write(block * BLOCK, randomBytes(BLOCK));
  client.close();
}

async function served(host: LoopbackHost, name: string): Promise<Buffer> {
  return readDisk((await host.vm(name)).disks[0]?.uri ?? "");
}

/** What each side has is there still; the old primary's as a point that nobody removes. */
async function bothAreKept(t: Test, name: string, late: Buffer): Promise<void> {
  await eventually("the old primary to be fenced", async () => {
    await primary.api.call("vmResume", {}, { vm: name });
    const { relationship, disks } = await primary.vm(name);
    return relationship?.state === "failed-over" && disks[0]?.uri === null;
  });
  const here = await served(replica, name);
  await replica.api.call("vmReverse", { replicaUrl: primaryUrl, intervalMs: 1000 }, { vm: name });
  await replicated(replica, name);
  t.ok((await served(replica, name)).equals(here), "nothing reached the VM from the old primary");
  const [branch] = await pointsOf(primary, name);
  t.match(branch, { isPinned: true, label: /^as this host left it/ });
  t.ok((await contentOfPoint(primary, name, branch?.pointId)).equals(late), "its late writes");
  t.ok((await contentOfPoint(primary, name)).equals(here), "and it follows");
}

void t.test("T38 T40 G6: both sides are written to behind a partition", async (t) => {
  const guest = await newVm("parted");
  line.cut();
  const pointCount = (await pointsOf(replica, "parted")).length;
  await replica.api.call("failover", { force: true }, { vm: "parted" });
  for (let block = 20; block < 30; block += 1) {
    await guest.write(block * BLOCK, randomBytes(BLOCK));
    await writeThere("parted", block);
  }
  await lastErrorOf(primary, "parted", "UNREACHABLE");
  t.equal((await pointsOf(replica, "parted")).length, pointCount);
  line.mend();
  await bothAreKept(t, "parted", guest.content);
  guest.disconnect();
});

void t.test("T40 G6: a primary that was stopped, and continued, is too late", async (t) => {
  const guest = await newVm("stopped");
  const uri = guest.uri;
  await guest.write(7 * BLOCK, randomBytes(BLOCK));
  primary.process?.child.kill("SIGSTOP");
  // Sent, and taken when the host goes on: before it can know better.
  const data = randomBytes(BLOCK);
  const late = guest.write(8 * BLOCK, data).then(
    () => true,
    () => false,
  );
  await replica.api.call("failover", { force: true }, { vm: "stopped" });
  await writeThere("stopped", 8);
  // What was under way ends for the replica, as by a time-out.
  await replica.stop("SIGKILL");
  await replica.start();
  await writeThere("stopped", 9);
  await sleep(STOPPED_MS);
  primary.process?.child.kill("SIGCONT");
  if (!(await late)) t.comment("the late write was refused");
  await bothAreKept(t, "stopped", guest.content);
  await t.rejects(NbdClient.connect(uri), "its guests are kept away");
  guest.disconnect();
});

void t.test("T44 G6: a primary that was set back overwrites nothing at the replica", async (t) => {
  const guest = await newVm("back");
  guest.disconnect();
  await primary.stop();
  const backup = join(directory, "backup");
  const isState = (path: string) => !path.endsWith(".sock") && !path.endsWith("/replica");
  await cp(primary.paths.directory, backup, {
    recursive: true,
    filter: isState,
  });
  await copyFile(guest.diskPath, `${backup}.raw`);
  await copyFile(`${guest.diskPath}.tidemark`, `${backup}.tidemark`);
  await primary.start();
  await guest.write(40 * BLOCK, randomBytes(BLOCK));
  await replicated(primary, "back");
  const newest = Buffer.from(guest.content);
  guest.disconnect();
  await primary.stop();
  await cp(backup, primary.paths.directory, { recursive: true });
  await copyFile(`${backup}.raw`, guest.diskPath);
  await copyFile(`${backup}.tidemark`, `${guest.diskPath}.tidemark`);
  const points = await pointsOf(replica, "back");
  await primary.start();
  const { message } = await lastErrorOf(primary, "back", "CONFLICT");
  t.match(message, /the replica was changed by somebody else: its newest point is/);
  await guest.write(41 * BLOCK, randomBytes(BLOCK));
  await primary.api.call("vmResume", {}, { vm: "back" });
  await lastErrorOf(primary, "back", "CONFLICT");
  t.same(await pointsOf(replica, "back"), points, "no point came, and none went");
  t.ok((await contentOfPoint(replica, "back")).equals(newest), "what it has forgotten is there");
  guest.disconnect();
});
