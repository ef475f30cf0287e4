import { z } from "zod";
import { TidemarkError } from "../../model/errors.js";

const IMAGE = z.object({ "virtual-size": z.number() });
const NODE = z.object({
  "node-name": z.string(),
  drv: z.string(),
  file: z.string(),
  ro: z.boolean(),
  detect_zeroes: z.enum(["off", "on", "unmap"]),
  cache: z.object({ direct: z.boolean(), "no-flush": z.boolean() }),
  image: IMAGE,
});
const DEVICE = z.object({
  device: z.string(),
  qdev: z.string().optional(),
  inserted: NODE.extend({ "node-name": z.string().optional() }).optional(),
});

export interface BlockNode {
  readonly nodeName: string;
  readonly driver: string;
  /** A path, an NBD URI, or "json:" and more where neither says it all. */
  readonly place: string;
  readonly sizeBytes: number;
  readonly isReadOnly: boolean;
  readonly isDirect: boolean;
  readonly ignoresFlushes: boolean;
  readonly detectsZeroes: "off" | "on" | "unmap";
}

export interface BlockDevice {
  readonly name: string;
  /** What the guest's requests come to first. */
  readonly root: BlockNode;
}

/** Of the answer to query-block: devices of the guest that have a medium. */
export function blockDevicesOf(answer: unknown): BlockDevice[] {
  return understood(z.array(DEVICE), answer).flatMap(({ device, qdev, inserted }) => {
    if (inserted === undefined || qdev === undefined) return [];
    const root = nodeOf({ ...inserted, "node-name": inserted["node-name"] ?? "" });
    return [{ name: deviceName(device, qdev), root }];
  });
}

/** Of the answer to query-named-block-nodes. */
export function blockNodesOf(answer: unknown): BlockNode[] {
  return understood(z.array(NODE), answer).map(nodeOf);
}

function nodeOf(node: z.infer<typeof NODE>): BlockNode {
  return {
    nodeName: node["node-name"],
    driver: node.drv,
    place: node.file,
    sizeBytes: node.image["virtual-size"],
    isReadOnly: node.ro,
    isDirect: node.cache.direct,
    ignoresFlushes: node.cache["no-flush"],
    detectsZeroes: node.detect_zeroes,
  };
}

/** "/machine/peripheral/disk0/virtio-backend" is `-device ...,id=disk0`; without an id, the drive's counts. */
function deviceName(drive: string, qdev: string): string {
  const id = /^\/machine\/peripheral\/([^/]+)/.exec(qdev)?.[1] ?? (qdev.includes("/") ? "" : qdev);
  return id || drive || qdev;
}

function understood<T>(schema: z.ZodType<T>, answer: unknown): T {
  const result = schema.safeParse(answer);
  if (result.success) return result.data;
  throw new TidemarkError(
    "VERSION_UNKNOWN",
    "Cannot see the VM's disks: because this QEMU's answer is not understood.",
    { hint: "Use QEMU 7.2 or later.", cause: result.error },
  );
}
