import { hostFiles } from "../security/host-files.js";
import { loadTlsIdentity } from "../security/tls-identity.js";
import type { NbdServer, NbdTlsOptions } from "../tracking/nbd-server.js";

const REFUSALS_EVERY_MS = 1000;

/** From the directory that `tidemark pki issue` wrote; its CA is the clients' too. */
export async function loadTrackTls(
  directory: string,
  allowedClients: readonly string[],
): Promise<NbdTlsOptions> {
  const { material } = await loadTlsIdentity(hostFiles(directory));
  return { ...material, allowedClients };
}

/**
 * While it is not disposed of: SIGHUP loads the certificates anew, and what
 * clients were refused for is said, at most once a second.
 */
export function attendTls(
  server: NbdServer,
  load: () => Promise<NbdTlsOptions>,
  onNotice: (line: string) => void,
): Disposable {
  const renew = () => {
    load()
      .then((tls) => {
        server.setTls(tls);
        onNotice("New connections get the certificates as they are now.");
      })
      .catch((thrown: unknown) => {
        onNotice(`The certificates stay as they were: ${describe(thrown)}`);
      });
  };
  let refusalsSaid = 0;
  const sayRefusals = () => {
    const { tlsRefusalsTotal, lastTlsRefusal } = server.statistics();
    const count = tlsRefusalsTotal - refusalsSaid;
    refusalsSaid = tlsRefusalsTotal;
    if (count === 1) onNotice(lastTlsRefusal);
    if (count > 1) onNotice(`${count} clients were refused. The last: ${lastTlsRefusal}`);
  };
  process.on("SIGHUP", renew);
  const timer = setInterval(sayRefusals, REFUSALS_EVERY_MS);
  return {
    [Symbol.dispose]() {
      process.removeListener("SIGHUP", renew);
      clearInterval(timer);
    },
  };
}

function describe(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
