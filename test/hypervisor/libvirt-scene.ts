/** A domain whose guest never boots, with a raw disk and a qcow2 disk, and a tracked disk beside it. */
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { LibvirtHypervisor, TrackedDisk } from "#lib/index.js";
import type { DiskFilter, Hypervisor } from "#lib/model/hypervisor.js";
import type { HypervisorScene } from "../contracts/hypervisor.js";
import type { PrivateLibvirt } from "../support/private-libvirt.js";
import { output, scratchDirectory, type Teardown } from "../support/program.js";

export const SIZE_BYTES = 8 << 20;

function definition(raw: string, qcow2: string): string {
  return `<domain type='qemu'><name>web</name><memory unit='MiB'>64</memory>
<os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<disk type='file'><driver name='qemu' type='raw' cache='none' discard='unmap' detect_zeroes='unmap'/>
<source file='${raw}'/><target dev='vda' bus='virtio'/></disk>
<disk type='file'><driver name='qemu' type='qcow2'/>
<source file='${qcow2}'/><target dev='vdb' bus='virtio'/></disk>
<controller type='usb' model='none'/><memballoon model='none'/></devices></domain>`;
}

interface Node {
  readonly "node-name": string;
  readonly file: string;
}

export class LibvirtScene implements HypervisorScene {
  readonly hypervisor: Hypervisor;
  readonly filter: DiskFilter;
  readonly otherFilter: DiskFilter;
  readonly disk: TrackedDisk;
  readonly libvirt: PrivateLibvirt;
  readonly #directory: string;

  private constructor(libvirt: PrivateLibvirt, directory: string, disk: TrackedDisk) {
    this.libvirt = libvirt;
    this.#directory = directory;
    this.disk = disk;
    this.hypervisor = new LibvirtHypervisor({ uri: libvirt.uri });
    const at = (name: string) => ({
      socketPath: join(directory, name),
      exportName: "vda",
      imagePath: disk.path,
    });
    [this.filter, this.otherFilter] = [at("nbd"), at("nbd2")];
  }

  static async make(t: Teardown, libvirt: PrivateLibvirt): Promise<LibvirtScene> {
    const directory = await scratchDirectory(t);
    const [raw, qcow2, xml] = [
      join(directory, "raw"),
      join(directory, "q"),
      join(directory, "xml"),
    ];
    await writeFile(raw, randomBytes(SIZE_BYTES));
    await output("qemu-img", "create", "-q", "-f", "qcow2", qcow2, "1M");
    await writeFile(xml, definition(raw, qcow2));
    const disk = await TrackedDisk.open({ path: raw, lock: "none", direct: true });
    t.teardown(() => disk.close());
    await libvirt.virsh("define", xml);
    t.teardown(async () => {
      await libvirt.try("destroy", "web");
      await libvirt.virsh("undefine", "web");
    });
    await libvirt.virsh("start", "--paused", "web");
    const scene = new LibvirtScene(libvirt, directory, disk);
    for (const { socketPath, exportName } of [scene.filter, scene.otherFilter]) {
      await disk.serve({ socketPath, exportName });
    }
    return scene;
  }

  async pause(): Promise<void> {
    await this.libvirt.virsh("suspend", "web");
  }

  async resume(): Promise<void> {
    await this.libvirt.virsh("resume", "web");
  }

  async stop(): Promise<void> {
    await this.libvirt.virsh("destroy", "web");
  }

  async bypass(diskName: string): Promise<void> {
    const spec = `${diskName},file=${join(this.#directory, "overlay")}`;
    const args = ["snapshot-create-as", "web", "one", "--disk-only", "--no-metadata"];
    await this.libvirt.virsh(...args, "--diskspec", spec, "--diskspec", "vdb,snapshot=no");
  }

  /** As the guest would write; says how it failed, or nothing. */
  async guestWrites(pattern: number, offsetBytes: number, lengthBytes: number): Promise<string> {
    const command = `qemu-io -d /machine/peripheral/virtio-disk0/virtio-backend "write -P ${pattern} ${offsetBytes} ${lengthBytes}"`;
    const answer = await this.libvirt.virsh("qemu-monitor-command", "web", "--hmp", command);
    return /error|failed|not/i.test(answer) ? answer : "";
  }

  /** The first disk's nodes in QEMU: "name place", without those of the other one. */
  async nodes(): Promise<readonly string[]> {
    const order = '{"execute":"query-named-block-nodes","arguments":{"flat":true}}';
    const answer = await this.libvirt.virsh("qemu-monitor-command", "web", order);
    const { return: nodes } = JSON.parse(answer) as { readonly return: readonly Node[] };
    return nodes
      .filter(({ file }) => !file.endsWith("/q"))
      .map((node) => `${node["node-name"]} ${node.file}`)
      .sort();
  }
}
