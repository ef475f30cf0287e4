import { TidemarkError } from "../model/errors.js";

const DEFAULT_PORT = 8461;

/** "https://host:port", "host:port" or "host". */
export function parsePeerUrl(text: string): string {
  const candidate = text.includes("://") ? text : `https://${text}`;
  const url = URL.canParse(candidate) ? new URL(candidate) : undefined;
  const isOrigin = url?.pathname === "/" && url.search === "" && url.username === "";
  if (url?.protocol !== "https:" || !isOrigin) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      `Cannot use ${JSON.stringify(text)} as a host: because it is not like r.example, r.example:8461 or https://r.example:8461.`,
    );
  }
  const hasPort = text.includes("://") || /:\d+$/.test(text);
  return hasPort ? url.origin : `https://${url.hostname}:${DEFAULT_PORT}`;
}
