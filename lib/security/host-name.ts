import { isIP } from "node:net";
import { TidemarkError } from "../model/errors.js";

const LABEL = /^(?!-)[a-z0-9_-]{1,63}(?<!-)$/;

/** A DNS name or IP address, lower case, without a trailing dot. */
export function parseHostName(text: string): string {
  const name = text.trim().toLowerCase().replace(/\.$/, "");
  if (isIP(name) !== 0) return canonicalAddress(name);
  const isDnsName =
    name.length > 0 && name.length <= 253 && name.split(".").every((label) => LABEL.test(label));
  if (!isDnsName || /^[0-9.]+$/.test(name)) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      `Cannot use ${JSON.stringify(text.slice(0, 80))} as a host name: because it is neither a DNS name nor an IP address.`,
      { hint: "Give a name such as replica1.example.com, or an address such as 192.0.2.7." },
    );
  }
  return name;
}

/** One spelling for an IPv6 address, "::1" rather than "0:0:0:0:0:0:0:1"; other text as it is. */
export function canonicalAddress(text: string): string {
  return isIP(text) === 6 ? new URL(`http://[${text}]`).hostname.slice(1, -1) : text;
}
