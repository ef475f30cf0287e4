import { createHash } from "node:crypto";
import { TidemarkError } from "../model/errors.js";
import { uuidText } from "./delta-format.js";

const NAMESPACE = Buffer.from("6f1c1d3a2b8e4f0e9a5d7469646d6172", "hex");
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
/** What a reader over NBD would not get from a target of this name. */
const LIVE_MAP = "live";

/** The UUID of a target: itself, or the version 5 UUID (RFC 9562) of its name. */
export function targetIdOf(name: string): string {
  if (UUID.test(name)) return name.toLowerCase();
  if (name === "" || Buffer.byteLength(name) > 255) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      "Cannot use that target name: it must have 1 to 255 bytes.",
    );
  }
  const hash = createHash("sha1").update(NAMESPACE).update(name).digest().subarray(0, 16);
  hash.writeUInt8((hash.readUInt8(6) & 0x0f) | 0x50, 6);
  hash.writeUInt8((hash.readUInt8(8) & 0x3f) | 0x80, 8);
  return uuidText(hash);
}

/** As targetIdOf(); INVALID_ARGUMENT for the name of what no target has yet. */
export function newTargetIdOf(name: string): string {
  if (name !== LIVE_MAP) return targetIdOf(name);
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot add target ${name}: because qemu:dirty-bitmap:${name} is what no target has yet.`,
    { hint: "Choose another name." },
  );
}
