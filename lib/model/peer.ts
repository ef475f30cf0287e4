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
