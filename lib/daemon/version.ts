import { createRequire } from "node:module";

const require = createRequire(import.meta.url);

/** Of this package. */
export const VERSION = (require("../../package.json") as { version: string }).version;
