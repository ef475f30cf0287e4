import { TidemarkError } from "../../model/errors.js";

const CODES = { CommandNotFound: "UNSUPPORTED", DeviceNotFound: "NOT_FOUND" } as const;

/** QEMU's refusal, in its own words. */
export function refusedCommand(
  command: string,
  errorClass: string,
  description: string,
): TidemarkError {
  const code = Object.hasOwn(CODES, errorClass)
    ? CODES[errorClass as keyof typeof CODES]
    : "CONFLICT";
  return new TidemarkError(code, `QEMU refused ${command}: ${description}`);
}
