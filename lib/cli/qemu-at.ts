import { resolve } from "node:path";
import type { HypervisorPlace } from "../model/hypervisor.js";

/** Of what --qemu-monitor was given. */
export function qemuAt(socketPath: string): HypervisorPlace {
  return { kind: "qemu", monitorPath: resolve(socketPath) };
}
