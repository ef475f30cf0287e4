/** docs/errors.md, from the table of error codes. */
import { ERROR_CODES } from "../lib/model/errors.js";

export const ERRORS_PATH = "docs/errors.md";

export function errorsDocument(): string {
  const rows = Object.entries(ERROR_CODES).map(
    ([code, { meaning, retryable }]) =>
      `| \`${code}\` | ${meaning} | ${retryable ? "yes" : "no"} |`,
  );
  return `<!-- Generated from lib/model/errors.ts by \`npm run docs\`. -->

# Errors

Whatever fails in the library, the API and the command line fails with a
\`TidemarkError\`. Its \`code\` is one of these and stays the same from version to
version; the message, "Cannot X: because Y.", and the \`hint\`, which says what to
do, are for people and may change. \`retryable\` says whether the same call may
succeed later without anybody's doing. The command line prints message and hint
and exits with 1; with \`--json\` it prints the fields.

| code | meaning | retryable |
|---|---|---|
${rows.join("\n")}
`;
}
