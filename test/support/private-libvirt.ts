/** A real libvirtd of the test's own: its files in a scratch directory, no network, nothing of the host's. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { eventually } from "./loopback-host.js";
import { missingTool, output, run, scratchDirectory, type Teardown } from "./program.js";

export class PrivateLibvirt {
  readonly uri: string;

  private constructor(uri: string) {
    this.uri = uri;
  }

  static missing(): Promise<string | null> {
    return missingTool("libvirtd", "virsh", "qemu-system-x86_64", "qemu-img", "unshare");
  }

  static async start(t: Teardown): Promise<PrivateLibvirt> {
    const directory = await scratchDirectory(t);
    const places = Object.fromEntries(
      ["RUNTIME_DIR", "CONFIG_HOME", "CACHE_HOME", "DATA_HOME"].map((name) => [
        `XDG_${name}`,
        join(directory, name),
      ]),
    );
    for (const place of Object.values(places))
      await mkdir(join(place, "libvirt"), { recursive: true });
    const settings = 'stdio_handler = "file"\nsecurity_driver = "none"\n';
    await writeFile(join(directory, "CONFIG_HOME/libvirt/qemu.conf"), settings);
    // As root it would be the system's: it is no root in a name space of its own.
    const own = ["-U", "--map-user=1000", "--map-group=1000", "libvirtd"];
    const [program, args] = process.getuid?.() === 0 ? ["unshare", own] : ["libvirtd", []];
    const env = {
      ...process.env,
      PATH: `${process.env["PATH"] ?? ""}:/usr/sbin`,
      HOME: directory,
      ...places,
    };
    const child = spawn(program, args, { stdio: "ignore", env });
    const ended = once(child, "exit");
    t.teardown(async () => {
      child.kill("SIGTERM");
      await ended;
    });
    const socket = join(directory, "RUNTIME_DIR/libvirt/libvirt-sock");
    const libvirt = new PrivateLibvirt(`qemu+unix:///session?socket=${socket}`);
    await eventually("libvirtd", async () => (await libvirt.try("uri")) === null);
    return libvirt;
  }

  virsh(...args: readonly string[]): Promise<string> {
    return output("virsh", "-q", "-c", this.uri, ...args);
  }

  /** What it complains of, or null. */
  async try(...args: readonly string[]): Promise<string | null> {
    const { exitCode, stderr } = await run("virsh", ["-q", "-c", this.uri, ...args]);
    return exitCode === 0 ? null : stderr;
  }
}
