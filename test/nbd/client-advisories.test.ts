/**
 * What has gone wrong in NBD clients, tried on ours (the upstream of a disk),
 * against a scripted server: each test is named after the advisory.
 */
import { join } from "node:path";
import { createSecureContext } from "node:tls";
import { readFile } from "node:fs/promises";
import t, { type Test } from "tap";
import { createCa, issueCertificate } from "#lib/security/pki.js";
import { binding, type NativeDevice } from "#lib/tracking/binding.js";
import { scratchDirectory } from "../support/program.js";
import { type ScriptedSettings, ScriptedServer } from "./scripted/scripted-server.js";

type OpenNbdDevice = (
  uri: string,
  connectionCount: number,
  readOnly: boolean,
  reconnectLimitMs: number,
) => Promise<NativeDevice>;

const isSoak = process.env["TIDEMARK_SOAK"] === "1";
const WRITES = isSoak ? 1_000_000 : 2000;
const FAILS_EACH = isSoak ? 999_999 : 250;
const BLOCK_BYTES = 512;
const openNbdDevice = (binding as { openNbdDevice?: OpenNbdDevice }).openNbdDevice;
const skip = openNbdDevice === undefined ? "this build has no NBD client" : false;
const directory = await scratchDirectory(t);
let serverCount = 0;

async function scripted(
  t: Test,
  settings: Omit<ScriptedSettings, "socketPath"> = {},
): Promise<ScriptedServer> {
  serverCount += 1;
  const socketPath = join(directory, `c${serverCount}`);
  const server = await ScriptedServer.start({ sizeBytes: 1 << 20, ...settings, socketPath });
  t.teardown(() => server.close());
  return server;
}

async function opened(uri: string): Promise<NativeDevice | Error> {
  if (openNbdDevice === undefined) throw new Error("no NBD client");
  try {
    return await openNbdDevice(uri, 1, false, 500);
  } catch (thrown) {
    return thrown as Error;
  }
}

async function isRefused(t: Test, uri: string, why: string): Promise<void> {
  const device = await opened(uri);
  t.ok(device instanceof Error, why);
  if (!(device instanceof Error)) await device.close();
}

void t.test("CVE-2023-5215, CVE-2023-5871: sizes that no disk has", { skip }, async (t) => {
  for (const claimedBytes of [(1n << 63n) - 1n, 1n << 63n, (1n << 64n) - 512n, (1n << 64n) - 1n]) {
    const { uri } = await scripted(t, { claimedBytes });
    const device = await opened(uri);
    if (device instanceof Error) continue;
    t.ok(device.sizeBytes > 0 && device.sizeBytes <= Number(1n << 63n), `${device.sizeBytes}`);
    await device.close();
  }
  const healthy = await opened((await scripted(t)).uri);
  t.notOk(healthy instanceof Error, "a sane server is used as ever");
  if (!(healthy instanceof Error)) await healthy.close();
});

void t.test("CVE-2022-0485: each request's error comes through", { skip }, async (t) => {
  const { uri } = await scripted(t, { failsEach: FAILS_EACH });
  const device = await opened(uri);
  if (device instanceof Error) throw device;
  let failedCount = 0;
  const data = Buffer.alloc(BLOCK_BYTES, 7);
  for (let done = 0; done < WRITES; done += 20) {
    const batch = Array.from({ length: 20 }, (_, index) =>
      device.write(((done + index) % 2048) * BLOCK_BYTES, data).catch(() => (failedCount += 1)),
    );
    await Promise.all(batch);
  }
  t.equal(failedCount, Math.floor(WRITES / FAILS_EACH), "as many failed as the server failed");
  await device.close();
});

void t.test("CVE-2021-20286: a server that refuses every option", { skip }, async (t) => {
  const ca = join(directory, "ca");
  await createCa(ca);
  const files = await issueCertificate(ca, ["localhost"], { outputDirectory: `${ca}-host` });
  const tls = createSecureContext({
    key: await readFile(files.keyPath),
    cert: await readFile(files.certificatePath),
  });
  const { uri } = await scripted(t, { tls, isTlsRequired: true });
  await isRefused(t, uri, "without TLS it gets nowhere");
  await isRefused(
    t,
    (await scripted(t, { defect: "unknown-option-ends" })).uri.replace("///", "///x"),
    "an unknown export",
  );
});

void t.test(
  "CVE-2019-14842, CVE-2024-7383: TLS that was asked for is never left out",
  { skip },
  async (t) => {
    const { uri } = await scripted(t);
    await isRefused(t, uri.replace(/^nbd/, "nbds"), "a server without TLS is refused");
  },
);
