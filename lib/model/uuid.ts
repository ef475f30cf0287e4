import { TidemarkError } from "./errors.js";

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** Lower-case canonical text of a UUID; anything else is refused, so that it can name a file. */
export function parseUuid(text: string, what: string): string {
  if (!UUID.test(text)) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      `Cannot use ${JSON.stringify(text.slice(0, 60))} as ${what}: it is not a UUID.`,
    );
  }
  return text.toLowerCase();
}
