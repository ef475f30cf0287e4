import type { Check } from "./check.js";
import { BLOCK_STATUS_CHECKS } from "./checks/block-status.js";
import { COMMAND_CHECKS } from "./checks/commands.js";
import { CONNECTION_CHECKS } from "./checks/connections.js";
import { DATA_INTEGRITY_CHECKS } from "./checks/data-integrity.js";
import { ERROR_CHECKS } from "./checks/errors.js";
import { EXPORT_CHECKS } from "./checks/exports.js";
import { EXTENDED_CHECKS } from "./checks/extended-headers.js";
import { HANDSHAKE_CHECKS } from "./checks/handshake.js";
import { OPTION_CHECKS } from "./checks/options.js";
import { TLS_CHECKS } from "./checks/tls.js";

export const ALL_CHECKS: readonly Check[] = [
  ...HANDSHAKE_CHECKS,
  ...EXPORT_CHECKS,
  ...OPTION_CHECKS,
  ...TLS_CHECKS,
  ...ERROR_CHECKS,
  ...COMMAND_CHECKS,
  ...BLOCK_STATUS_CHECKS,
  ...CONNECTION_CHECKS,
  ...EXTENDED_CHECKS,
  ...DATA_INTEGRITY_CHECKS,
];
