import { readdir } from "node:fs/promises";
import { join } from "node:path";

/**
 * The layers of a replica's committed points, of all VMs below the directory. What is still
 * arriving is not looked at: its directories come and go while the replica works.
 */
export async function committedLayers(vmsDirectory: string): Promise<string[]> {
  const found: string[] = [];
  for (const vmId of await readdir(vmsDirectory)) {
    const epochs = join(vmsDirectory, vmId, "epochs");
    for (const epoch of await readdir(epochs)) {
      const layers = join(epochs, epoch, "layers");
      for (const name of await readdir(layers)) found.push(join(layers, name));
    }
  }
  return found;
}
