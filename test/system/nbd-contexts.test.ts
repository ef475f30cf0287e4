/**
 * Which blocks a target lacks, read over NBD by tools that nobody here wrote, under
 * the names that people give targets; and sockets that a service manager hands over.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { access, truncate, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import t, { type Test } from "tap";
import { activatedSockets, NbdServer, TrackedDisk } from "#lib/index.js";
import { run, scratchDirectory } from "../support/program.js";
import { skipWithout, succeeds } from "../support/foreign-tools.js";

const PROGRAM = fileURLToPath(new URL("../../bin/tidemark.js", import.meta.url));
const BLOCK = 4096;
const SIZE = 16 * 1024 * 1024;
const directory = await scratchDirectory(t);

async function newDisk(name: string): Promise<string> {
  const path = join(directory, name);
  await writeFile(path, "");
  await truncate(path, SIZE);
  return path;
}

/** [first, count] of the runs of dirty blocks, as nbdinfo reads them. */
async function dirtyByNbdinfo(t: Test, uri: string, name: string): Promise<number[][]> {
  const context = `qemu:dirty-bitmap:${name}`;
  const map = await succeeds(t, "nbdinfo", `--map=${context}`, "--json", uri);
  const extents = JSON.parse(map) as { offset: number; length: number; type: number }[];
  return extents
    .filter(({ type }) => (type & 1) !== 0)
    .map(({ offset, length }) => [offset / BLOCK, length / BLOCK]);
}

/** The same, as qemu-img does: it shows what is dirty as no data. */
async function dirtyByQemu(t: Test, socket: string, name: string): Promise<number[][]> {
  const options = `driver=nbd,server.type=unix,server.path=${socket},x-dirty-bitmap=qemu:dirty-bitmap:${name}`;
  const map = await succeeds(t, "qemu-img", "map", "--output=json", "--image-opts", options);
  const extents = JSON.parse(map) as { start: number; length: number; data: boolean }[];
  return extents
    .filter(({ data }) => !data)
    .map(({ start, length }) => [start / BLOCK, length / BLOCK]);
}

void t.test(
  "each target's pending blocks and the live ones are read by name",
  { skip: await skipWithout("nbdinfo", "qemu-img") },
  async (t) => {
    const path = await newDisk("named.raw");
    await using disk = await TrackedDisk.open({ path, granularityBytes: BLOCK });
    await disk.addTarget("backup", "nothing");
    await disk.addTarget("Straße 9", "nothing");
    const socket = `${path}.sock`;
    const server = await disk.serve({ socketPath: socket });
    const uri = server.uriOf("");
    const dirty = async (name: string) => {
      const seen = await dirtyByNbdinfo(t, uri, name);
      t.same(await dirtyByQemu(t, socket, name), seen, `qemu-img agrees on ${name}`);
      return seen;
    };
    t.same(await dirty("backup"), []);
    await disk.write(3 * BLOCK, Buffer.alloc(2 * BLOCK, 1));
    t.same(await dirty("backup"), [[3, 2]]);
    t.same(await dirty("live"), [[3, 2]]);

    const checkpoint = await disk.checkpoint("backup");
    await disk.write(100 * BLOCK, Buffer.alloc(BLOCK, 2));
    t.same(await dirty("live"), [[100, 1]], "the next checkpoint's");
    t.same(await dirty("backup"), [[100, 1]], "the rest is on its way");
    t.same(await dirty("Straße 9"), [
      [3, 2],
      [100, 1],
    ]);
    await checkpoint.commit();
    t.same(await dirty("backup"), [[100, 1]]);

    const [target] = disk.targets();
    t.ok(target);
    t.same(await dirtyByNbdinfo(t, uri, target?.targetId ?? ""), [[100, 1]], "by UUID, too");
    const list = await succeeds(t, "nbdinfo", "--json", uri);
    t.match(list, `qemu:dirty-bitmap:${target?.targetId}`);
    const unknown = await run("nbdinfo", ["--map=qemu:dirty-bitmap:nobody", uri]);
    t.not(unknown.exitCode, 0);
  },
);

void t.test("no target is called what the live map is called", async (t) => {
  await using disk = await TrackedDisk.open({ path: await newDisk("live.raw") });
  await t.rejects(disk.addTarget("live", "nothing"), { code: "INVALID_ARGUMENT" });
  t.same(disk.targets(), []);
});

void t.test("activatedSockets() takes what is for this process, once", (t) => {
  const environment = (pid: number, count = "2", names = "nbd:"): NodeJS.ProcessEnv => ({
    LISTEN_PID: String(pid),
    LISTEN_FDS: count,
    LISTEN_FDNAMES: names,
    OTHER: "stays",
  });
  const mine = environment(42);
  t.same(activatedSockets(mine, 42), [
    { fd: 3, name: "nbd" },
    { fd: 4, name: "unknown" },
  ]);
  t.same(mine, { OTHER: "stays" });
  t.same(activatedSockets(mine, 42), []);
  t.same(activatedSockets(environment(43), 42), []);
  t.same(activatedSockets({}, 42), []);
  for (const count of ["", "-1", "2x", "1e3", "99999", " 1"]) {
    t.throws(() => activatedSockets(environment(42, count), 42), { code: "INVALID_ARGUMENT" });
  }
  t.end();
});

void t.test("a descriptor that is no listening socket is refused", async (t) => {
  await t.rejects(NbdServer.start({ listenFd: 1_000_000 }), { code: "INVALID_ARGUMENT" });
  await t.rejects(NbdServer.start({ listenFd: 0, host: "::1" }), { code: "INVALID_ARGUMENT" });
});

void t.test("nobody is let in before accept(): connections wait for the exports", async (t) => {
  const socketPath = join(directory, "waiting.sock");
  await using server = await NbdServer.start({ socketPath, acceptsAtOnce: false });
  const socket = connect({ path: socketPath });
  t.teardown(() => socket.destroy());
  let isGreeted = false;
  socket.once("data", () => (isGreeted = true));
  await once(socket, "connect");
  await new Promise((resolve) => setTimeout(resolve, 50));
  t.same([isGreeted, server.statistics().connectionsTotal], [false, 0]);
  server.accept();
  server.accept();
  while (!isGreeted) await new Promise((resolve) => setTimeout(resolve, 5));
  t.equal(server.statistics().connectionsTotal, 1);
});

void t.test(
  "tidemark track serves the socket that libnbd hands over",
  { skip: await skipWithout("nbdinfo") },
  async (t) => {
    const path = await newDisk("activated.raw");
    const program = [process.execPath, PROGRAM, "track", "--disk", path];
    const output = await succeeds(t, "nbdinfo", "--size", "--", "[", ...program, "]");
    t.equal(output.trim().split("\n").at(-1), String(SIZE), "behind what track says itself");
  },
);

void t.test(
  "tidemark track serves the socket that systemd hands over, and leaves it there",
  { skip: await skipWithout("systemd-socket-activate", "nbdinfo") },
  async (t) => {
    const path = await newDisk("systemd.raw");
    const socket = join(directory, "systemd.sock");
    const program = [process.execPath, PROGRAM, "track", "--disk", path];
    const child = spawn("systemd-socket-activate", ["-l", socket, ...program], { stdio: "ignore" });
    t.teardown(() => child.kill("SIGKILL"));
    while (!(await exists(socket))) await new Promise((resolve) => setTimeout(resolve, 20));
    const size = await succeeds(t, "nbdinfo", "--size", `nbd+unix:///?socket=${socket}`);
    t.equal(size.trim(), String(SIZE));
    child.kill("SIGTERM");
    t.same(await once(child, "close"), [0, null]);
    t.ok(await exists(socket), "the socket is the service manager's");
  },
);

void t.test("tidemark track refuses a socket handed over beside another place", async (t) => {
  const path = await newDisk("both.raw");
  const listener = createServer().listen(join(directory, "both.sock"));
  await once(listener, "listening");
  t.teardown(() => listener.close());
  const child = spawn(
    "sh",
    ["-c", 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"', "sh", process.execPath, PROGRAM, "track"].concat(
      ["--disk", path, "--socket", `${path}.sock`],
    ),
    { stdio: ["ignore", "ignore", "pipe", "ignore"] },
  );
  let stderr = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const [exitCode] = (await once(child, "close")) as [number | null];
  t.not(exitCode, 0);
  t.match(stderr, /one socket handed over/);
});

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
