/** Hosts of different versions: what they have in common counts, and what they do not is said. */
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import t, { type Test } from "tap";
import { agreeVersion } from "#lib/transport/agree-version.js";
import { HttpsReplicaEndpoint } from "#lib/transport/https-replica-client.js";
import { HostPair } from "./host-pair.js";
import { generatedSource, newHeader } from "./hosts.js";

const pair = await HostPair.start(t as Test);
const { pki, lanes } = pair;
const tls = () => pki.primary;
const recipe = { seed: 1, pieceBytes: 4096, pieceCount: 1 };

void t.test("the highest common version, for all pairs of ranges", async (t) => {
  const ranges = [1, 2, 3, 4].flatMap((first) =>
    [1, 2, 3, 4].flatMap((last) =>
      first > last ? [] : [Array.from({ length: last - first + 1 }, (_, at) => first + at)],
    ),
  );
  for (const ours of ranges) {
    for (const theirs of ranges) {
      let expected = 0;
      for (let version = 1; version <= 4; version += 1) {
        if (ours.includes(version) && theirs.includes(version)) expected = version;
      }
      const agree = () => agreeVersion("protocol", ours, theirs);
      if (expected > 0) t.equal(agree(), expected, `${ours.join()} and ${theirs.join()}`);
      else
        t.throws(agree, {
          code: "VERSION_UNKNOWN",
          message: new RegExp(`version ${ours.join(", ")} and the replica ${theirs.join(", ")}`),
        });
    }
  }
});

/** A replica of a later version: it notes in which version it is asked. */
async function laterPeer(t: Test, protocolVersions: readonly number[]) {
  const asked: string[] = [];
  const { certificatePem: cert, keyPem: key, authorityPem: ca } = pki.replica;
  const server = createServer({ cert, key, ca, requestCert: true }, (message, response) => {
    asked.push(message.url ?? "");
    const hello = {
      product: "tidemark",
      protocolVersions,
      deltaFormatVersions: [1, 2],
      host: {
        hostName: "later.example",
        softwareVersion: "9.0.0",
        acceptsReplicas: true,
        freeBytes: 1,
        refusal: null,
        somethingNew: [1, 2, 3],
      },
      alsoNew: "yes",
    };
    message.resume().on("end", () => {
      response.end(JSON.stringify(message.url?.endsWith("/hello") === true ? hello : []));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return { asked, replicaUrl: `https://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

void t.test("a replica one version later is spoken to in ours", async (t) => {
  const { asked, replicaUrl } = await laterPeer(t, [1, 2]);
  await using endpoint = new HttpsReplicaEndpoint({ replicaUrl, tls, lanes });
  const header = newHeader();
  t.same(await endpoint.openDelta(header), []);
  t.same(asked, ["/v1/hello", `/v1/vms/${header.vmId}/deltas/${header.deltaId}`]);
});

void t.test("a primary one version later speaks this version to us", async (t) => {
  const { replica, replicaUrl } = pair;
  const protocolVersions = [1, 2];
  await using endpoint = new HttpsReplicaEndpoint({ replicaUrl, tls, lanes, protocolVersions });
  const header = newHeader();
  await endpoint.openDelta(header);
  await endpoint.putSegment(generatedSource(header.deltaId, 0, recipe));
  t.equal(replica.completed.size, 1);
});

void t.test("both later: they speak the later version, segments too", async (t) => {
  const { asked, replicaUrl } = await laterPeer(t, [1, 2]);
  const protocolVersions = [1, 2];
  await using endpoint = new HttpsReplicaEndpoint({ replicaUrl, tls, lanes, protocolVersions });
  const header = newHeader();
  await endpoint.openDelta(header);
  // It answers no receipt; what counts is where the segment went.
  await t.rejects(endpoint.putSegment(generatedSource(header.deltaId, 0, recipe)));
  const below = `/v2/vms/${header.vmId}/deltas/${header.deltaId}`;
  t.same(asked, ["/v1/hello", below, `${below}/attempts/1/segments/0`]);
});

void t.test("an empty delta: announced first to a replica that knows no other way", async (t) => {
  const { asked, replicaUrl } = await laterPeer(t, [1]);
  await using endpoint = new HttpsReplicaEndpoint({ replicaUrl, tls, lanes });
  const header = { ...newHeader(), segmentCount: 0 };
  const { vmId, deltaId, attempt, generation } = header;
  const request = { vmId, deltaId, attempt, generation, digest: "0".repeat(64), header };
  // It answers no point; what counts is what it was asked.
  await t.rejects(endpoint.commit(request));
  const delta = `/v1/vms/${vmId}/deltas/${deltaId}`;
  t.same(asked, ["/v1/hello", delta, `${delta}/commit`]);
});

void t.test("nothing in common: each is told what the other speaks", async (t) => {
  const { replicaUrl } = await laterPeer(t, [2, 3]);
  await using endpoint = new HttpsReplicaEndpoint({ replicaUrl, tls, lanes });
  const expected = { code: "VERSION_UNKNOWN", message: /protocol version 1 and the replica 2, 3/ };
  await t.rejects(endpoint.status(newHeader().vmId), expected);

  const later = new HttpsReplicaEndpoint({
    replicaUrl: pair.replicaUrl,
    tls,
    lanes,
    protocolVersions: [2, 3],
  });
  await t.rejects(later.status(newHeader().vmId), {
    code: "VERSION_UNKNOWN",
    message: /protocol version 2, 3 and the replica 1/,
  });
  await later.close();
});
