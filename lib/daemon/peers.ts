import type { Compression } from "../model/relationship-settings.js";
import type { PeerTestReport } from "../model/peer-test.js";
import type { TlsMaterial } from "../model/peer.js";
import { HttpsReplicaEndpoint } from "../transport/https-replica-client.js";
import type { LanePool } from "../transport/lane-pool.js";
import { testPeer } from "../transport/peer-test.js";

export interface PeerPlace {
  /** "https://host:port". */
  readonly replicaUrl: string;
  readonly proxyUrl: string | null;
}

/** What this host can ask of other hosts, beyond replicating to them. */
export class Peers {
  readonly #tls: () => TlsMaterial;
  readonly #lanes: LanePool;

  constructor(tls: () => TlsMaterial, lanes: LanePool) {
    this.#tls = tls;
    this.#lanes = lanes;
  }

  /** Step by step; nothing changes there. */
  test({ replicaUrl, proxyUrl }: PeerPlace, neededBytes = 0): Promise<PeerTestReport> {
    const tls = this.#tls();
    return testPeer({ url: replicaUrl, proxyUrl, tls, lanes: this.#lanes, neededBytes });
  }

  /** The caller's to close. */
  connect(place: PeerPlace, compression: Compression = 1): HttpsReplicaEndpoint {
    const { replicaUrl, proxyUrl } = place;
    const lanes = this.#lanes;
    return new HttpsReplicaEndpoint({
      replicaUrl,
      proxyUrl,
      tls: this.#tls,
      lanes,
      compression: () => compression,
    });
  }
}
