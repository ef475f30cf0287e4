/** Which folder of lib may import which, and which packages belong to which folder. */
import type { Finding } from "./finding.js";
import { importsOf, libFolderOf, type ModuleImport } from "./modules.js";
import { filesBelow, type SourceTree } from "./source-tree.js";

interface FolderRule {
  readonly may: readonly string[];
  readonly because: string;
}

const EVERYTHING = "*";

const FOLDER_RULES: Readonly<Record<string, FolderRule>> = {
  model: { may: [], because: "the nouns and the seams depend on nothing" },
  tracking: { may: ["model"], because: "the tracker is a library of its own" },
  transport: { may: ["model"], because: "it moves bytes and knows neither tracker nor replica" },
  media: {
    may: ["model", "transport"],
    because: "it keeps on a disk what transport would send, in threads like transport's",
  },
  security: { may: ["model"], because: "identities serve whoever asks" },
  broker: { may: ["model"], because: "it is behind the state store's seam" },
  hypervisor: { may: ["model"], because: "adapters are behind one seam" },
  replica: { may: ["model", "tracking"], because: "layers are written and read by the addon" },
  replication: { may: ["model"], because: "the engine sees seams: no socket, database or addon" },
  management: { may: ["model", "replication"], because: "it shows what the engine does" },
  cli: { may: ["model", "management"], because: "it speaks to the service through its API" },
  console: { may: ["model", "management"], because: "it speaks to the service through its API" },
  daemon: { may: [EVERYTHING], because: "the only place that constructs and wires" },
  "index.ts": {
    may: ["model", "tracking", "hypervisor"],
    because: "the library is the tracker, and what puts it before a running VM's disks",
  },
  "testing.ts": { may: ["model", "tracking"], because: "the library is the tracker" },
};

/** A package that is not named here may be used everywhere in lib. */
const PACKAGE_FOLDERS: Readonly<Record<string, FolderRule>> = {
  bindings: { may: ["tracking"], because: "binding.ts is the only loader of the addon" },
  "better-sqlite3": { may: ["broker", "replica"], because: "only stores keep databases" },
  "zstd-napi": { may: ["transport"], because: "its calls block: they belong to worker threads" },
  fastify: { may: ["management"], because: "only the API is served by it" },
  commander: { may: ["cli"], because: "only the command line parses arguments" },
  "cli-progress": { may: ["cli", "daemon"], because: "only terminals show progress" },
  "@peculiar/x509": { may: ["security"], because: "only security makes certificates" },
  "reflect-metadata": { may: ["security"], because: "@peculiar/x509 needs it" },
  tsx: { may: [], because: "what is shipped is compiled" },
  tap: { may: [], because: "tests are not shipped" },
};

/** Files of one package's folder that alone may load it. */
const PACKAGE_FILES: Readonly<Record<string, string>> = {
  bindings: "lib/tracking/binding.ts",
};

export function checkImportRules(tree: SourceTree): Finding[] {
  return filesBelow(tree, "lib", /\.ts$/)
    .flatMap(({ path }) => importsOf(tree, path))
    .flatMap((found) => [...judgeFile(found), ...judgePackage(found)]);
}

function judgeFile({ from, line, file }: ModuleImport): Finding[] {
  if (file === null) return [];
  const folder = libFolderOf(from);
  const target = libFolderOf(file);
  if (file === "package.json") return [];
  if (!file.startsWith("lib/")) {
    return [{ path: from, line, message: `imports ${file}, which is not part of lib` }];
  }
  const rule = FOLDER_RULES[folder];
  if (rule === undefined)
    return [{ path: from, line, message: `lib/${folder} has no import rule` }];
  if (folder === target || rule.may.includes(EVERYTHING) || rule.may.includes(target)) return [];
  return [{ path: from, line, message: `${folder} may not import ${target}: ${rule.because}` }];
}

function judgePackage({ from, line, packageName }: ModuleImport): Finding[] {
  const rule = packageName === null ? undefined : PACKAGE_FOLDERS[packageName];
  if (packageName === null || rule === undefined) return [];
  const only = PACKAGE_FILES[packageName];
  if (rule.may.includes(libFolderOf(from)) && (only === undefined || only === from)) return [];
  return [{ path: from, line, message: `may not import ${packageName}: ${rule.because}` }];
}
