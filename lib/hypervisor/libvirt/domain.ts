import { TidemarkError } from "../../model/errors.js";
import { type DomainStats, domainStatsOf } from "./domain-stats.js";
import type { Virsh } from "./virsh.js";

const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const TARGET = /^[a-z]+$/;

/** A domain of libvirt. */
export class Domain {
  readonly virsh: Virsh;
  readonly uuid: string;

  private constructor(virsh: Virsh, uuid: string) {
    this.virsh = virsh;
    this.uuid = uuid;
  }

  /** NOT_FOUND; UNREACHABLE when it does not run. */
  static async find(virsh: Virsh, name: string, signal: AbortSignal): Promise<Domain> {
    const uuid = (await virsh.run(["domuuid", "--domain", name], signal)).trim();
    if (!UUID.test(uuid)) throw notFound(name);
    // virsh takes a number for an id.
    const found = await virsh.run(["domname", "--domain", uuid], signal);
    if (found.trim() !== name) throw notFound(name);
    const domain = new Domain(virsh, uuid);
    if ((await domain.stats(signal)).isRunning) return domain;
    throw new TidemarkError("UNREACHABLE", `Cannot control VM ${name}: because it does not run.`, {
      hint: `Start it: \`virsh start ${name}\`.`,
    });
  }

  async stats(signal: AbortSignal): Promise<DomainStats> {
    const args = ["domstats", "--raw", "--state", "--block", this.uuid];
    return domainStatsOf(await this.virsh.run(args, signal));
  }

  /**
   * Whether the definition of the running domain has a disk of that target and predicate
   * (XPath): libvirt reads it itself.
   */
  async hasDisk(target: string, predicate: string, signal: AbortSignal): Promise<boolean> {
    if (!TARGET.test(target)) throw notFound(target);
    const path = `/domain/devices/disk[target/@dev='${target}'][${predicate}]/target`;
    const found = await this.virsh.run(["dumpxml", this.uuid, "--xpath", path], signal);
    return found.trim() !== "";
  }
}

function notFound(name: string): TidemarkError {
  return new TidemarkError("NOT_FOUND", `Cannot find ${name}: because libvirt does not know it.`, {
    hint: "See its names with `virsh list --all`, and a domain's disks with `virsh domblklist`.",
  });
}
