import { join } from "node:path";

export interface CaFiles {
  readonly certificatePath: string;
  readonly keyPath: string;
}

export interface HostFiles extends CaFiles {
  readonly authorityPath: string;
}

/** Where a host directory keeps its certificate, key and CA. */
export function hostFiles(directory: string): HostFiles {
  return {
    certificatePath: join(directory, "host.crt"),
    keyPath: join(directory, "host.key"),
    authorityPath: join(directory, "ca.crt"),
  };
}
