import { spawn } from "node:child_process";
import { open, rm } from "node:fs/promises";
import { TidemarkError } from "../model/errors.js";
import type { NativeDevice } from "../tracking/binding.js";
import { NbdServer } from "../tracking/nbd-server.js";

const EXPORT_NAME = "disk";

/** Through the system's qemu-img, which reads the disk from a server of ours. Durable but for its name. */
export async function convertToQcow2(
  device: NativeDevice,
  socketPath: string,
  path: string,
  signal: AbortSignal,
): Promise<void> {
  await rm(socketPath, { force: true });
  await using server = await NbdServer.start({ socketPath, acceptsAtOnce: false });
  server.addExport(EXPORT_NAME, device, { readOnly: true });
  server.accept();
  await convert(server.uriOf(EXPORT_NAME), path, signal);
  await using file = await open(path, "r");
  await file.sync();
}

async function convert(uri: string, path: string, signal: AbortSignal): Promise<void> {
  const args = ["convert", "-f", "raw", "-O", "qcow2", uri, path];
  const { exitCode, stderr } = await run("qemu-img", args, signal);
  if (exitCode === 0) return;
  const code = stderr.includes("No space left") ? "NO_SPACE" : "IO_ERROR";
  throw new TidemarkError(
    code,
    `Cannot make ${path}: because qemu-img says: ${stderr.trim().replace(/\.?$/, "")}.`,
  );
}

function run(
  program: string,
  args: readonly string[],
  signal: AbortSignal,
): Promise<{ exitCode: number | null; stderr: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { signal, stdio: ["ignore", "ignore", "pipe"] });
    let stderr = "";
    child.stderr.on("data", (chunk: Buffer) => {
      stderr = (stderr + chunk.toString()).slice(-2000);
    });
    let failure: NodeJS.ErrnoException | null = null;
    child.once("error", (error) => {
      failure = error;
    });
    // Not before: one that was stopped may be writing still.
    child.once("close", (exitCode) => {
      if (failure === null) resolve({ exitCode, stderr });
      else reject(failure.code === "ENOENT" ? notInstalled(program) : failure);
    });
  });
}

function notInstalled(program: string): TidemarkError {
  return new TidemarkError(
    "UNSUPPORTED",
    `Cannot make a qcow2 file: because ${program} is not installed on this host.`,
    { hint: "Install it (Debian: qemu-utils), or copy as raw." },
  );
}
