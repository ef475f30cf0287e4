/**
 * Application-consistent points by real scripts. The application writes its number to one
 * place and then to another: whoever sees it at rest sees the same number in both.
 */
import { access, chmod, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import t from "tap";
import type { RouteBodyInput } from "#lib/management/routes.js";
import type { PointExportBody, VmStatus } from "#lib/management/schemas.js";
import { Cli } from "../support/cli.js";
import {
  contentOfPoint,
  eventually,
  Guest,
  pointsOf,
  replicated,
  startPair,
} from "../support/loopback-host.js";
import { scratchDirectory } from "../support/program.js";

t.setTimeout(120_000);

const directory = await scratchDirectory(t);
const pair = await startPair(t, directory);
const guest = await Guest.make(directory, "vm1");
const cli = new Cli(pair.primary.paths.directory);
const [ORDER, REST, OTHER_PLACE] = [join(directory, "order"), join(directory, "rest"), 1 << 20];
const script = join(directory, "quiesce");

const isThere = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  );

/** One for both: it orders rest and waits for it, or takes the order back. */
async function writeScript(freeze: string): Promise<void> {
  const wait = `while [ ! -e ${REST} ]; do sleep 0.01; done`;
  const body = `case $1 in freeze) ${freeze}; touch ${ORDER}; ${wait};; thaw) rm -f ${ORDER};; esac`;
  await writeFile(script, `#!/bin/sh\n${body}\n`);
  await chmod(script, 0o755);
}

class Application {
  #isEnded = false;
  #running: Promise<void> = Promise.resolve();
  number = 0;

  begin(): void {
    this.#isEnded = false;
    this.#running = this.#run();
  }

  async end(): Promise<void> {
    this.#isEnded = true;
    await this.#running;
  }

  async #run(): Promise<void> {
    while (!this.#isEnded) {
      if (await isThere(ORDER)) {
        await writeFile(REST, "");
        await sleep(5);
        continue;
      }
      await rm(REST, { force: true });
      this.number += 1;
      const block = Buffer.alloc(4096, this.number.toString(16).padStart(8, "0"));
      await guest.write(0, block);
      await sleep(5);
      await guest.write(OTHER_PLACE, block);
    }
  }
}

const application = new Application();
t.teardown(() => application.end());

async function relationship(): Promise<NonNullable<VmStatus["relationship"]>> {
  const { relationship: found } = await pair.primary.vm(guest.name);
  if (found === null) throw new Error("there is no relationship");
  return found;
}

const set = (change: RouteBodyInput<"vmSettings">) =>
  pair.primary.api.call("vmSettings", change, { vm: guest.name });

const marked = async (consistency: string) =>
  (await pointsOf(pair.replica, guest.name)).filter((point) => point.consistency === consistency);

void t.test("points that are marked so hold an application at rest", async (t) => {
  await writeScript(":");
  const enabled = await guest.enable(pair.primary, pair.replicaUrl);
  t.equal(enabled.relationship?.applicationConsistency, null);
  await replicated(pair.primary, guest.name);
  application.begin();
  const every = ["vm", "set", guest.name, "--app-consistent", "1s"];
  t.match(await cli.fails(t, "INVALID_ARGUMENT", ...every), /no script to freeze/);
  const scripts = ["--freeze-script", script, "--thaw-script", script];
  await chmod(script, 0o777);
  t.match(await cli.fails(t, "FORBIDDEN", ...every, ...scripts), /others may write to/);
  await chmod(script, 0o755);
  const shown = await cli.text(t, ...every, ...scripts, "--freeze-limit", "3s");
  t.match(shown, `Application-consistent every 1.0 s: ${script}, ${script}, at rest for at most 3`);
  await eventually("two such points", async () => (await marked("application")).length >= 2);
  t.ok((await marked("crash")).length > 0, "not all are");
  for (const { pointId } of await marked("application")) {
    const content = await contentOfPoint(pair.replica, guest.name, pointId);
    const place = (at: number) => content.subarray(at, at + 8).toString("latin1");
    t.equal(place(0), place(OTHER_PLACE));
  }
  t.match(await cli.text(t, "vm", "status", guest.name), /Last application-consistent point: 20/);
  t.match(
    await new Cli(pair.replica.paths.directory).text(t, "vm", "points", guest.name),
    /applic/,
  );
});

void t.test("the newest of them is named by its kind", async (t) => {
  const onReplica = new Cli(pair.replica.paths.directory);
  const kind = ["--read-only", "--point", "application-consistent"];
  const opened = await onReplica.json<PointExportBody>(t, "vm", "open", guest.name, ...kind);
  const newest = (await marked("application")).at(-1);
  t.ok(opened.point.sequence <= (newest?.sequence ?? 0));
  t.equal(opened.point.consistency, "application");
  await onReplica.text(t, "vm", "close", opened.exportId);
});

void t.test("a freeze that hangs ends in its box; the point comes, with a warning", async (t) => {
  await writeScript("sleep 60");
  await set({ frozenLimitMs: 1000 });
  const why = /not application-consistent: .*took more than 1 s/;
  const { health, state } = await eventually("a warning", async () => {
    const status = await relationship();
    return status.healthReasons.some((reason) => why.test(reason)) && status;
  });
  t.not(health, "normal");
  t.equal(state, "replicating");
  t.match(await cli.text(t, "vm", "status", guest.name), /Health: The last point is not appl/);
  const before = (await marked("crash")).length;
  await eventually("more points", async () => (await marked("crash")).length > before);
  const { current } = await pair.primary.api.call("vmStatistics", {}, { vm: guest.name });
  t.ok((current?.freezeFailureCount ?? 0) > 0);
  await writeScript(":");
  await eventually("no warning", async () => (await relationship()).health === "normal");
});

void t.test("a service that is killed while it freezes thaws at its next start", async (t) => {
  // From the next freeze on: one that began before would thaw by itself soon.
  await set({ frozenLimitMs: 60_000 });
  const before = (await marked("application")).length;
  await eventually("another freeze", async () => (await marked("application")).length > before);
  await application.end();
  guest.disconnect();
  await rm(REST, { force: true });
  // The order is there, and nobody comes to rest any more.
  await eventually("the order", () => isThere(ORDER));
  await pair.primary.stop("SIGKILL");
  t.ok(await isThere(ORDER));
  await pair.primary.start();
  await eventually("the thaw", async () => !(await isThere(ORDER)));
  await set({ applicationConsistentEveryMs: null });
  await eventually("nothing to say", async () => {
    const { applicationConsistency, health } = await relationship();
    return applicationConsistency === null && health === "normal";
  });
});
