/** Our server over a memory device, in this process, with TLS and client certificates where it can. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type NbdServerOptions, NbdServer } from "#lib/index.js";
import { createCa, issueCertificate } from "#lib/security/pki.js";
import { memoryDevice } from "#lib/testing.js";
import type { Teardown } from "../support/program.js";
import { Target } from "./conformance/target.js";

let targetCount = 0;

export async function tlsTarget(
  t: Teardown,
  directory: string,
  sizeBytes = 1 << 20,
): Promise<Target> {
  targetCount += 1;
  const ca = join(directory, `ca-${targetCount}`);
  await createCa(ca);
  const files = await issueCertificate(ca, ["localhost"], { outputDirectory: `${ca}-host` });
  const tls = {
    certificatePem: await readFile(files.certificatePath, "utf8"),
    keyPem: await readFile(files.keyPath, "utf8"),
    authorityPem: await readFile(join(ca, "ca.crt"), "utf8"),
  };
  const socketPath = join(directory, `tls-${targetCount}.sock`);
  const options = { socketPath, tls } as NbdServerOptions;
  const server = await NbdServer.start(options);
  t.teardown(() => server.close());
  server.addExport("", memoryDevice(sizeBytes));
  const scheme = server.uriOf("").startsWith("nbds") ? "nbds" : "nbd";
  return Target.of(`${scheme}+unix:///?socket=${socketPath}&tls-certificates=${ca}-host`);
}
