/** The `tidemark` program. */
import { reportFailure } from "../cli/output.js";
import { buildProgram } from "../cli/program.js";
import { localCommands } from "./local-commands.js";
import { VERSION } from "./version.js";

try {
  await buildProgram(localCommands, VERSION).parseAsync();
} catch (thrown) {
  reportFailure(thrown, process.argv.includes("--json"));
}
