/** `npm run docs`: writes the generated documents. The declarations must be compiled. */
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { API_PATH, apiDocument } from "./api-docs.js";
import { ERRORS_PATH, errorsDocument } from "./error-docs.js";
import { STATES_PATH, statesDocument } from "./state-docs.js";

const root = fileURLToPath(new URL("../", import.meta.url));
process.chdir(root);
writeFileSync(ERRORS_PATH, errorsDocument());
writeFileSync(API_PATH, apiDocument(root));
writeFileSync(STATES_PATH, statesDocument(root));
