import t from "tap";
import { checkDeadFiles } from "../../tools/tidy/check-dead-files.js";
import { checkGenerated } from "../../tools/tidy/check-generated.js";
import { checkImportCycles } from "../../tools/tidy/check-import-cycles.js";
import { checkImportRules } from "../../tools/tidy/check-import-rules.js";
import { checkLeftovers } from "../../tools/tidy/check-leftovers.js";
import {
  checkLengths,
  filesOver400Lines,
  functionsOver40Lines,
} from "../../tools/tidy/check-lengths.js";
import { checkLinks } from "../../tools/tidy/check-links.js";
import { checkManifest } from "../../tools/tidy/check-manifest.js";
import { checkNativeIncludes } from "../../tools/tidy/check-native-includes.js";
import { checkNativeSources } from "../../tools/tidy/check-native-sources.js";
import { checkRootEntries } from "../../tools/tidy/check-root-entries.js";
import { unusedExports } from "../../tools/tidy/check-unused-exports.js";
import { type Finding, formatFinding } from "../../tools/tidy/finding.js";
import { findFunctions } from "../../tools/tidy/functions.js";
import { checkRatchet, lowered, type Offenders } from "../../tools/tidy/ratchet.js";
import { type SourceTree, treeOf } from "../../tools/tidy/source-tree.js";

type Check = (tree: SourceTree) => Finding[];
type Files = Readonly<Record<string, string>>;

/** A check with files that it accepts, and violations that are planted one at a time. */
interface Case {
  readonly check: Check;
  readonly clean: Files;
  readonly planted: Readonly<Record<string, { files: Files; found: RegExp }>>;
}

const statements = (count: number) => "  step();\n".repeat(count);
const lines = (count: number) => "// line\n".repeat(count);
/** Written so that this file does not hold what the check looks for. */
const word = (text: string) => text.replaceAll("_", "");

const CASES: Readonly<Record<string, Case>> = {
  "import rules": {
    check: checkImportRules,
    clean: {
      "lib/model/errors.ts": "export const a = 1;\n",
      "lib/replica/store.ts":
        'import { binding } from "../tracking/binding.js";\nimport "better-sqlite3";\n',
      "lib/tracking/binding.ts":
        'import { a } from "../model/errors.js";\nconst b = require("bindings");\n',
      "lib/daemon/main.ts": 'import { store } from "../replica/store.js";\n',
    },
    planted: {
      "the model imports": {
        files: { "lib/model/delta.ts": 'import { b } from "../tracking/binding.js";\n' },
        found: /lib\/model\/delta\.ts:1: model may not import tracking/,
      },
      "the engine knows the network, by a type": {
        files: {
          "lib/transport/lane.ts": "",
          "lib/replication/engine.ts": 'import type { Lane } from "../transport/lane.js";\n',
        },
        found: /replication may not import transport/,
      },
      "an import over several lines": {
        files: {
          "lib/cli/a.ts": '\n\nimport {\n  one,\n  two,\n} from "../tracking/binding.js";\n',
        },
        found: /lib\/cli\/a\.ts:3: cli may not import tracking/,
      },
      "an import at run time": {
        files: { "lib/broker/a.ts": 'await import("../replica/store.js");\n' },
        found: /broker may not import replica/,
      },
      "a second loader of the addon": {
        files: { "lib/tracking/other.ts": 'const b = require("bindings");\n' },
        found: /other\.ts:1: may not import bindings/,
      },
      "a package in the wrong folder": {
        files: { "lib/transport/peer.ts": 'import fastify from "fastify";\n' },
        found: /may not import fastify/,
      },
      "a folder without a rule": {
        files: { "lib/helpers/a.ts": 'import "../model/errors.js";\n' },
        found: /lib\/helpers has no import rule/,
      },
      "lib imports a test": {
        files: { "test/a.ts": "", "lib/daemon/a.ts": 'import "../../test/a.js";\n' },
        found: /not part of lib/,
      },
    },
  },
  "import cycles": {
    check: checkImportCycles,
    clean: {
      "lib/model/a.ts": 'import "./b.js";\nimport "./c.js";\n',
      "lib/model/b.ts": 'import "./c.js";\n',
      "lib/model/c.ts": "",
    },
    planted: {
      "three files in a ring": {
        files: { "lib/model/c.ts": 'export { x } from "./a.js";\n' },
        found: /imports itself: .*a\.ts > .*c\.ts > .*a\.ts/,
      },
    },
  },
  "native includes": {
    check: checkNativeIncludes,
    clean: {
      "native/common/status.h": "#include <string>\n",
      "native/nbd/handshake.h": '#include "common/status.h"\n',
      "native/tracking/gate.h": "",
      "native/addon/a.cc": '#include <napi.h>\n#include "tracking/gate.h"\n',
      "native/test/a_test.cc": '#include "scratch_file.h"\n#include <doctest/doctest.h>\n',
      "native/test/scratch_file.h": "",
    },
    planted: {
      "the server knows that it is tracked": {
        files: { "native/nbd/server.cc": '\n#include "tracking/gate.h"\n' },
        found: /native\/nbd\/server\.cc:2: nbd may not include tracking\/gate\.h/,
      },
      "napi.h outside of the addon": {
        files: { "native/device/a.h": "#include <napi.h>\n" },
        found: /only native\/addon may include napi\.h/,
      },
      "common includes": {
        files: { "native/common/fd.h": '#include "nbd/handshake.h"\n' },
        found: /common may not include nbd/,
      },
      "a header that is not there": {
        files: { "native/nbd/a.cc": '#include "common/gone.h"\n' },
        found: /common\/gone\.h is not there/,
      },
    },
  },
  "native sources": {
    check: checkNativeSources,
    clean: {
      "native/sources.txt": "native/a/a.cc\nnative/a/b.cc\n",
      "native/a/a.cc": "",
      "native/a/b.cc": "",
      "native/test/a_test.cc": "",
    },
    planted: {
      "a source that is not listed": {
        files: { "native/a/c.cc": "" },
        found: /native\/a\/c\.cc: is missing/,
      },
      "an entry without a file": {
        files: { "native/sources.txt": "native/a/a.cc\nnative/a/b.cc\nnative/a/z.cc\n" },
        found: /sources\.txt:3: native\/a\/z\.cc is not there/,
      },
      "an entry twice": {
        files: { "native/sources.txt": "native/a/a.cc\nnative/a/a.cc\nnative/a/b.cc\n" },
        found: /listed twice/,
      },
      "not in order": {
        files: { "native/sources.txt": "native/a/b.cc\nnative/a/a.cc\n" },
        found: /not sorted/,
      },
    },
  },
  lengths: {
    check: checkLengths,
    clean: {
      "lib/a.ts": `function a(): void {\n${statements(68)}}\n`,
      "native/a/b.cc": lines(600),
    },
    planted: {
      "a function of 71 lines": {
        files: { "lib/b.ts": `\nasync function a(): Promise<void> {\n${statements(69)}}\n` },
        found: /lib\/b\.ts:2: a function of 71 lines/,
      },
      "a C++ function of 71 lines": {
        files: { "native/a/c.cc": `Status A::b(int x) const {\n${statements(69)}}\n` },
        found: /native\/a\/c\.cc:1: a function of 71 lines/,
      },
      "a file of 601 lines": { files: { "test/a.ts": lines(601) }, found: /601 lines, over 600/ },
    },
  },
  "dead files": {
    check: checkDeadFiles,
    clean: {
      "lib/index.ts": 'export { a } from "./tracking/a.js";\n',
      "lib/tracking/a.ts": "",
      "lib/daemon/main.ts": 'new URL("./lane-worker.js", import.meta.url);\n',
      "lib/daemon/lane-worker.ts": "",
      "lib/model/memory-store.ts": "",
      "test/a.test.ts": 'import "#lib/model/memory-store.js";\n',
    },
    planted: {
      "a file that nothing imports": {
        files: { "lib/tracking/b.ts": 'import "./a.js";\n' },
        found: /lib\/tracking\/b\.ts: nothing/,
      },
      "a file that only a test imports": {
        files: { "lib/tracking/b.ts": "", "test/b.test.ts": 'import "#lib/tracking/b.js";\n' },
        found: /lib\/tracking\/b\.ts: nothing/,
      },
      "an implementation in memory that no test uses": {
        files: { "lib/model/memory-other.ts": "" },
        found: /memory-other\.ts: nothing/,
      },
    },
  },
  "unused exports": {
    check: unusedExports,
    clean: {
      "lib/a/a.ts": "export interface A {}\nexport function b(a: A): void {}\n",
      "lib/a/b.ts": "export const c = 1;\n",
      "lib/a/d.ts": "export const d = 1;\n",
      "test/a.test.ts":
        'import { b } from "#lib/a/a.js";\nimport * as all from "#lib/a/b.js";\nimport {\n  type Other,\n  d as e,\n} from "#lib/a/d.js";\n',
    },
    planted: {
      "a function": {
        files: { "lib/a/c.ts": "\nexport async function gone(): Promise<void> {}\n" },
        found: /lib\/a\/c\.ts:2: exports gone/,
      },
      "a type that its file does not use": {
        files: { "lib/a/c.ts": "export interface Gone {}\n" },
        found: /exports Gone/,
      },
    },
  },
  leftovers: {
    check: checkLeftovers,
    clean: {
      "lib/a.ts": "// all done\n",
      "lib/cli/a.ts": "console.log(1);\n",
      "test/a.test.ts": 'void t.test("a", { skip: reason }, run);\n',
      "docs/a.md": "See https://example.com/home/a and ./guide/b.\n",
    },
    planted: {
      "unfinished work": {
        files: { "native/a/a.cc": word("\n// TO_DO: later\n") },
        found: /native\/a\/a\.cc:2: .*unfinished/,
      },
      "a test that is left out": {
        files: { "test/b.test.ts": word('t.on_ly("a", run);\n') },
        found: /left out/,
      },
      "printing in the library": {
        files: { "lib/tracking/a.ts": "console.log(1);\n" },
        found: /only the command line/,
      },
      "a path of one machine": {
        files: { "docs/b.md": word("Look into /ho_me/me/notes.\n") },
        found: /a path of one machine/,
      },
      "a large file": { files: { "docs/c.svg": "x".repeat((1 << 20) + 1) }, found: /over 1 MiB/ },
    },
  },
  "top level": {
    check: checkRootEntries,
    clean: { "lib/a.ts": "", "README.md": "" },
    planted: { "a stray file": { files: { "verify.state": "" }, found: /verify\.state/ } },
  },
  links: {
    check: checkLinks,
    clean: {
      "README.md":
        "[a](docs/a.md#the-first-one) [b](docs) [c](https://example.com) [d](#top)\n# Top\n",
      "docs/a.md": "## The *first* one\n[up](../README.md)\n",
    },
    planted: {
      "a file that is not there": {
        files: { "docs/b.md": "\n[a](c.md)\n" },
        found: /docs\/b\.md:2: links to docs\/c\.md/,
      },
      "a heading that is not there": {
        files: { "docs/b.md": "[a](a.md#second)\n" },
        found: /no heading #second/,
      },
    },
  },
  manifest: {
    check: checkManifest,
    clean: { "package.json": '{"dependencies":{"a":"1.2.3"}}', "package-lock.json": "{}" },
    planted: {
      "a range": {
        files: { "package.json": '{"devDependencies":{"a":"^1.2.3"}}' },
        found: /devDependencies: a is/,
      },
      "a range among the overrides": {
        files: { "package.json": '{"overrides":{"a":">=1"}}' },
        found: /overrides: a is/,
      },
      "a registry's address": {
        files: { "package-lock.json": '{\n"resolved": "https://example.com/a.tgz"}' },
        found: /package-lock\.json:2/,
      },
    },
  },
  "generated documents": {
    check: (tree) => checkGenerated(tree, "docs/a.md", "new\n", "npm run docs"),
    clean: { "docs/a.md": "new\n" },
    planted: { "an old one": { files: { "docs/a.md": "old\n" }, found: /npm run docs/ } },
  },
};

for (const [name, { check, clean, planted }] of Object.entries(CASES)) {
  void t.test(name, async (t) => {
    t.same(check(treeOf(clean)), [], "accepts what is right");
    for (const [what, { files, found }] of Object.entries(planted)) {
      const findings = check(treeOf({ ...clean, ...files }));
      t.equal(findings.length, 1, what);
      t.match(findings.map(formatFinding).join("\n"), found, what);
    }
  });
}

void t.test("a ratchet refuses a rise, and a fall that is not written down", async (t) => {
  const finding = { path: "a.ts", message: "too long" };
  const committed = { functionsOver40Lines: 1, filesOver400Lines: 0, unusedExports: 0 };
  const offenders = (count: number): Offenders => ({
    functionsOver40Lines: Array.from({ length: count }, () => finding),
    filesOver400Lines: [],
    unusedExports: [],
  });
  t.same(checkRatchet(committed, offenders(1)), []);
  t.equal(checkRatchet(committed, offenders(2)).length, 2);
  t.match(checkRatchet(committed, offenders(0))[0]?.message, /--lower/);
  t.equal(lowered(committed, offenders(0)).functionsOver40Lines, 0);
  t.equal(lowered(committed, offenders(5)).functionsOver40Lines, 1);
});

void t.test("what is counted begins above the counts' limits", async (t) => {
  const file = (count: number) => ({ "lib/a.ts": `const a = () => {\n${statements(count)}};\n` });
  t.equal(functionsOver40Lines(treeOf(file(38))).length, 0);
  t.equal(functionsOver40Lines(treeOf(file(39))).length, 1);
  t.equal(filesOver400Lines(treeOf({ "lib/a.ts": lines(400) })).length, 0);
  t.equal(filesOver400Lines(treeOf({ "lib/a.ts": lines(401) })).length, 1);
});

const TYPESCRIPT = `
class A extends B {
  readonly #x = { a: 1 };
  constructor(a: { b: number } = { b: 1 }) {
    super(a);
  }
  async *read(
    from: number,
  ): AsyncGenerator<{
    a: number;
  }> {
    for (const x of y) {
      if (x) {
      } else if (z(x)) {
      }
    }
    try {
    } catch (thrown) {
    }
  }
  get b(): Map<string, () => void> {
    return list.map((x) => {
      return x / 2 + "}" + \`{\${x}\` + /[{]/.source;
    });
  }
}
interface C {
  d(): void;
}
`;

const CPP = `
namespace a {
struct B {
  int c() const override { return 1'000; }
};
A::A(int x)
    : x_(x), y_{x} {
  if (x) {
    while (y) {
    }
  }
}
auto A::b() -> std::vector<int> {
  return std::vector<int>{1, 2};
}
void A::c() REQUIRES(mutex_) {
  run([this] {
    char c = '{';
  });
}
TEST_CASE("a { brace") {
}
}  // namespace a
`;

void t.test("functions are told from other braces", async (t) => {
  const at = (text: string, language: "ts" | "cc") =>
    findFunctions(text, language)
      .map(({ line, lineCount }) => `${line}+${lineCount}`)
      .toSorted();
  t.same(at(TYPESCRIPT, "ts"), ["11+10", "21+5", "22+3", "4+3"].toSorted());
  t.same(
    at(CPP, "cc").filter((place) => !place.endsWith("+1")),
    ["13+3", "16+5", "17+3", "21+2", "7+6"].toSorted(),
  );
});
