import { isIP } from "node:net";
import { TidemarkError } from "../model/errors.js";

/** "127.0.0.1:10809", "[::1]:10809". */
export function parseListen(text: string): { readonly host: string; readonly port: number } {
  const match = /^(?:\[(?<six>[^\]]+)\]|(?<four>[^:]+)):(?<port>\d{1,5})$/.exec(text);
  const host = match?.groups?.["six"] ?? match?.groups?.["four"] ?? "";
  const port = Number(match?.groups?.["port"]);
  if (isIP(host) === 0 || port > 65_535) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      `Cannot listen on ${JSON.stringify(text)}: it is not like 127.0.0.1:10809 or [::1]:10809.`,
    );
  }
  return { host, port };
}
