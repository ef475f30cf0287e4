import { chmod, mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import t from "tap";
import { requireSafeScript } from "#lib/hypervisor/require-safe-script.js";
import { applicationFreezerContract } from "../contracts/application-freezer.js";
import { scratchDirectory } from "../support/program.js";
import { ScriptScene } from "./script-scene.js";

const ID = "f3333333-3333-4333-8333-333333333333";
const never = new AbortController().signal;

void applicationFreezerContract(t, "scripts", async (t) =>
  ScriptScene.make(await scratchDirectory(t)),
);

async function made(t: Parameters<typeof scratchDirectory>[0]): Promise<ScriptScene> {
  return ScriptScene.make(await scratchDirectory(t));
}

void t.test("a script is told what to do, of which VM, and little else", async (t) => {
  const scene = await made(t);
  process.env["TDM_SECRET"] = "1";
  const told = [
    '[ "$1 $2" = "freeze web" ]',
    '[ "$TIDEMARK_ACTION $TIDEMARK_VM" = "freeze web" ]',
    `[ "$TIDEMARK_VM_ID" = "${scene.way.vmId}" ]`,
    '[ -z "$TDM_SECRET" ] && [ -n "$PATH" ] && [ "$PWD" != / ]',
  ];
  await scene.write("freeze", told.map((check) => `${check} || exit 9`).join("\n"));
  await scene.open().freeze(ID, never);
  t.ok(await scene.isFrozen());
});

void t.test("what a script says when it fails is told, with how to run it by hand", async (t) => {
  const scene = await made(t);
  await scene.failFreezing();
  await t.rejects(scene.open().freeze(ID, never), {
    code: "IO_ERROR",
    message: `Cannot freeze the applications of web: because ${scene.way.freezeScript} ended with status 3 and said "no such database".`,
    hint: `Run it by hand: ${scene.way.freezeScript} freeze web.`,
  });
  await scene.write("thaw", "kill -9 $$");
  await t.rejects(scene.open().thaw(ID, never), { message: /ended with signal SIGKILL\.$/ });
});

void t.test("what a freeze leaves running holds the applications, until its thaw", async (t) => {
  const scene = await made(t);
  await scene.write("freeze", "(while [ ! -e go ]; do sleep 0.02; done; touch went) & touch here");
  const freezer = scene.open();
  await freezer.freeze(ID, never);
  await scene.write("thaw", "touch go; while [ ! -e went ]; do sleep 0.02; done");
  await freezer.thaw(ID, never);
  t.ok(await scene.has("went"), "it was not killed");
});

void t.test("a freeze that is given up is killed with all that it has started", async (t) => {
  const scene = await made(t);
  await scene.write("freeze", "touch under-way; (sleep 0.3; touch late) & wait");
  const stop = new AbortController();
  const freezer = scene.open();
  const freezing = freezer.freeze(ID, stop.signal);
  await scene.isFreezing();
  stop.abort(new Error("enough"));
  await t.rejects(freezing);
  await freezer.thaw(ID, never);
  await scene.write("freeze", "sleep 0.5");
  await scene.open().freeze(ID, never);
  t.notOk(await scene.has("late"));
});

void t.test("a script that others could have written is not run", async (t) => {
  const directory = await scratchDirectory(t);
  const make = async (name: string, mode: number) => {
    const path = join(directory, name);
    await writeFile(path, "#!/bin/sh\n");
    await chmod(path, mode);
    return path;
  };
  const good = await make("good", 0o755);
  await requireSafeScript(good);
  const refused = async (path: string, code: string, message: RegExp) =>
    t.rejects(requireSafeScript(path), { code, message }, path);
  await refused("good", "INVALID_ARGUMENT", /is not absolute/);
  await refused(join(directory, "none"), "NOT_FOUND", /is not there/);
  await refused(await make("plain", 0o644), "INVALID_ARGUMENT", /no executable file/);
  await refused(directory, "INVALID_ARGUMENT", /no executable file/);
  await refused(await make("open", 0o757), "FORBIDDEN", /others may write to .*open/);
  await mkdir(join(directory, "shared"));
  const inside = await make("shared/inside", 0o755);
  await requireSafeScript(inside);
  const link = join(directory, "shared/link");
  await symlink(good, link);
  await chmod(join(directory, "shared"), 0o777);
  await refused(inside, "FORBIDDEN", /others may write to .*shared/);
  await refused(link, "FORBIDDEN", /others may write to .*shared/);
  const scene = await ScriptScene.make(join(directory, "scene"));
  await chmod(scene.way.freezeScript, 0o777);
  await t.rejects(scene.open().freeze(ID, never), { code: "FORBIDDEN" });
  t.notOk(await scene.isFrozen());
});
