/** The `tidemark` program. */
import { reportFailure } from "../cli/output.js";
import { buildProgram } from "../cli/program.js";
import { localCommands } from "./local-commands.js";
import { VERSION } from "./version.js";

try {
  const program = await buildProgram(localCommands, VERSION);
  await program.parseAsync();
} catch (thrown) {
  reportFailure(thrown, process.argv.includes("--json"));
}
