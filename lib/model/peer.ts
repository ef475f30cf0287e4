/** Who is at the other end of a connection, as its certificate says. */
export interface PeerIdentity {
  /** DNS names and IP addresses of the certificate's SAN, lower case. */
  readonly hostNames: readonly string[];
  /** SHA-256 of the certificate, hex. */
  readonly fingerprint: string;
}

/** What one end of a mutual TLS connection needs, PEM. Structured-cloneable. */
export interface TlsMaterial {
  readonly certificatePem: string;
  readonly keyPem: string;
  /** The authorities whose certificates are accepted; the system's are not. */
  readonly authorityPem: string;
}

/** What a host says of itself to a peer that may become its primary. */
export interface PeerDescription {
  readonly hostName: string;
  readonly softwareVersion: string;
  /** Its administrator turned that on. */
  readonly acceptsReplicas: boolean;
  /** Where replicas are kept; null when it keeps none. */
  readonly freeBytes: number | null;
}
