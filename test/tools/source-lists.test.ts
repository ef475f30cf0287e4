/**
 * The addon is built by node-gyp, and by CMake (cmake-js) for sanitizers and
 * editors. Both generators are asked what they would compile; the answers must
 * be the same, and the test is shown to see a source that only one of them has.
 */
import { execFile } from "node:child_process";
import { copyFile, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import t, { type Test } from "tap";

const run = promisify(execFile);
const root = fileURLToPath(new URL("../../", import.meta.url));
const hasCmake = await run("cmake", ["--version"]).then(
  () => true,
  () => false,
);
const skip = hasCmake ? false : "cmake is not installed";

/** A project directory of its own, whose build files can be changed. */
async function projectCopy(t: Test): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "tidemark-sources-"));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  for (const name of ["native", "node_modules"]) {
    await symlink(join(root, name), join(directory, name));
  }
  for (const name of ["binding.gyp", "CMakeLists.txt", "package.json"]) {
    await copyFile(join(root, name), join(directory, name));
  }
  return directory;
}

/** Of Node.js, as the build of this checkout found it: nothing is fetched for this test. */
async function headersDirectory(): Promise<string> {
  const config = await readFile(join(root, "build/config.gypi"), "utf8");
  return /"nodedir": "([^"]+)"/.exec(config)?.[1] ?? "";
}

async function gypSources(directory: string): Promise<string[]> {
  const nodeGyp = join(root, "node_modules/node-gyp/bin/node-gyp.js");
  await run(process.execPath, [
    nodeGyp,
    "configure",
    `--directory=${directory}`,
    `--nodedir=${await headersDirectory()}`,
  ]);
  const makefile = await readFile(join(directory, "build/tidemark.target.mk"), "utf8");
  const objects = /^OBJS := \\\n((?:.*\\\n)*.*)$/m.exec(makefile)?.[1] ?? "";
  return [...objects.matchAll(/\$\(TARGET\)\/(\S+)\.o/g)]
    .map(([, path]) => `${path}.cc`)
    .toSorted();
}

/** With what cmake-js sets, so that the addon's target is there. */
async function cmakeSources(directory: string): Promise<string[]> {
  const build = join(directory, "build-cmake");
  await run("cmake", ["-S", directory, "-B", build, `-DCMAKE_JS_INC=${directory}`]);
  const commands = await readFile(join(build, "compile_commands.json"), "utf8");
  return (JSON.parse(commands) as { file: string }[])
    .map(({ file }) => file.slice(file.lastIndexOf("/native/") + 1))
    .toSorted();
}

void t.test("node-gyp and CMake compile the same sources", { skip }, async (t) => {
  const directory = await projectCopy(t);
  const [gyp, cmake] = await Promise.all([gypSources(directory), cmakeSources(directory)]);
  t.ok(gyp.length > 50);
  t.same(gyp, cmake);
});

void t.test("a source that only node-gyp has is found", { skip }, async (t) => {
  const directory = await projectCopy(t);
  const path = join(directory, "binding.gyp");
  const text = await readFile(path, "utf8");
  await writeFile(path, text.replace('"sources": [', '"sources": ["native/test/main.cc", '));
  const [gyp, cmake] = await Promise.all([gypSources(directory), cmakeSources(directory)]);
  t.same(
    gyp.filter((source) => !cmake.includes(source)),
    ["native/test/main.cc"],
  );
});

void t.test("a source that only CMake has is found", { skip }, async (t) => {
  const directory = await projectCopy(t);
  const path = join(directory, "CMakeLists.txt");
  const text = await readFile(path, "utf8");
  const target = "add_library(tidemark_core STATIC";
  await writeFile(path, text.replace(target, `${target} native/test/main.cc`));
  const [gyp, cmake] = await Promise.all([gypSources(directory), cmakeSources(directory)]);
  t.same(
    cmake.filter((source) => !gyp.includes(source)),
    ["native/test/main.cc"],
  );
});
