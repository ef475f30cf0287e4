/** Takes uploads and drops them: `https-receiver PKI_DIRECTORY`. Prints its port. */
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";

const pki = process.argv[2] ?? "";
const server = createServer(
  {
    ca: readFileSync(join(pki, "ca.crt")),
    cert: readFileSync(join(pki, "host.crt")),
    key: readFileSync(join(pki, "host.key")),
    requestCert: true,
    minVersion: "TLSv1.3",
  },
  (request, response) => {
    request.resume();
    request.once("end", () => response.writeHead(204).end());
  },
);
server.listen(0, "127.0.0.1", () => {
  console.log(JSON.stringify({ port: (server.address() as AddressInfo).port }));
});
