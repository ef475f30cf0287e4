/**
 * Before tap is loaded, as tools/run-test-files.ts has it. Its domains, which tell which test an
 * error came from that nobody caught, watch every promise: a third of the time of tests that make
 * many. Without them such an error ends the process, and the file has failed, with the error in
 * its output.
 *
 * JavaScript: worker threads inherit it, and begin without tsx.
 */
import asyncHooks from "node:async_hooks";
import { syncBuiltinESMExports } from "node:module";

const nothing = { enable: () => nothing, disable: () => nothing };
asyncHooks.createHook = () => nothing;
syncBuiltinESMExports();
