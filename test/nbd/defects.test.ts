/** The suite itself: a right server passes, and each wrong one is found by the check made for it. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { createSecureContext } from "node:tls";
import t from "tap";
import { createCa, issueCertificate } from "#lib/security/pki.js";
import { scratchDirectory } from "../support/program.js";
import { Violation } from "./client/failures.js";
import { ALL_CHECKS } from "./conformance/all-checks.js";
import { type CheckResult, runChecks } from "./conformance/suite.js";
import { Target } from "./conformance/target.js";
import { DEFECTS, type DefectName } from "./scripted/defects.js";
import { type ScriptedSettings, ScriptedServer } from "./scripted/scripted-server.js";

const SMALL_BYTES = 8 << 20;
const SETTINGS = { seed: 1, operations: 150 };
const directory = await scratchDirectory(t);
const ca = join(directory, "ca");
await createCa(ca);
const host = await issueCertificate(ca, ["localhost"], {
  outputDirectory: join(directory, "host"),
});
const tls = createSecureContext({
  key: await readFile(host.keyPath),
  cert: await readFile(host.certificatePath),
});
let serverCount = 0;

async function results(
  settings: Omit<ScriptedSettings, "socketPath">,
  only: string | null,
  scheme = "nbd",
): Promise<CheckResult[]> {
  serverCount += 1;
  const socketPath = join(directory, `s${serverCount}`);
  const server = await ScriptedServer.start({ ...settings, socketPath });
  try {
    const target = await Target.of(server.uri.replace(/^nbd/, scheme));
    const checks = ALL_CHECKS.filter(({ name }) => only === null || name === only);
    return await runChecks(target, checks, SETTINGS);
  } finally {
    await server.close();
  }
}

function failures(all: readonly CheckResult[]): string[] {
  return all
    .filter(({ verdict }) => verdict !== "passed" && verdict !== "not offered")
    .map(
      ({ name, verdict, reason, findings }) =>
        `${name} ${verdict} ${reason} ${JSON.stringify(findings)}`,
    );
}

void t.test("a server that does everything right passes", async (t) => {
  const plain = await results({}, null);
  t.same(failures(plain), []);
  const notOffered = plain
    .filter(({ verdict }) => verdict === "not offered")
    .map(({ name }) => name);
  const other = ["read-only", "unaligned", "tls-", "unadvertised", "info-name"];
  t.same(
    notOffered.filter((name) => !other.some((word) => name.includes(word))),
    [],
  );
});

void t.test("so does one that has TLS", async (t) => {
  t.same(failures(await results({ tls, sizeBytes: SMALL_BYTES }, null)), []);
});

void t.test("so does one that requires TLS", async (t) => {
  t.same(
    failures(await results({ tls, isTlsRequired: true, sizeBytes: SMALL_BYTES }, null, "nbds")),
    [],
  );
});

void t.test("so does one that is read-only", async (t) => {
  t.same(failures(await results({ isReadOnly: true, sizeBytes: SMALL_BYTES }, null)), []);
});

void t.test("so does one of 4 KiB blocks", async (t) => {
  t.same(failures(await results({ minimumBlock: 4096, sizeBytes: SMALL_BYTES }, null)), []);
});

function settingsFor(defect: DefectName): Omit<ScriptedSettings, "socketPath"> {
  const { check } = DEFECTS[defect];
  return {
    defect,
    sizeBytes: SMALL_BYTES,
    ...(check.startsWith("tls-") ? { tls } : {}),
    ...(check === "errors-read-only" ? { isReadOnly: true } : {}),
    ...(check === "errors-server-unaligned" ? { minimumBlock: 512 } : {}),
    ...(check === "extended-lengths" ? { sizeBytes: 64 << 20 } : {}),
  };
}

for (const defect of Object.keys(DEFECTS) as DefectName[]) {
  const { check, verdict } = DEFECTS[defect];
  void t.test(`${defect} is found by ${check}`, async (t) => {
    // A defect may show in the very first talk, which then says so.
    const found = await results(settingsFor(defect), check).catch((thrown: unknown) => thrown);
    if (found instanceof Error) {
      t.ok(found instanceof Violation && verdict === "violates", found.message);
      return;
    }
    t.equal((found as CheckResult[])[0]?.verdict, verdict, JSON.stringify(found));
  });
}
