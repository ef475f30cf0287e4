import { TidemarkError } from "../model/errors.js";

/** What Node and OpenSSL say when a certificate is the reason, on either side. */
const CERTIFICATE_CODES = new Set([
  "CERT_HAS_EXPIRED",
  "CERT_NOT_YET_VALID",
  "CERT_REJECTED",
  "CERT_REVOKED",
  "CERT_SIGNATURE_FAILURE",
  "CERT_UNTRUSTED",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "ERR_TLS_CERT_ALTNAME_INVALID",
  "INVALID_CA",
  "INVALID_PURPOSE",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
]);

/** Alerts by which a peer refuses our certificate. */
const REFUSING_ALERT =
  /ALERT_(CERTIFICATE_REQUIRED|UNKNOWN_CA|BAD_CERTIFICATE|UNSUPPORTED_CERTIFICATE|CERTIFICATE_(REVOKED|EXPIRED|UNKNOWN)|ACCESS_DENIED|DECRYPT_ERROR)|HANDSHAKE_FAILURE/;

const TIMEOUT_CODES = new Set(["ETIMEDOUT", "ESOCKETTIMEDOUT", "ERR_HTTP_REQUEST_TIMEOUT"]);

/** Gives a failed connection its Tidemark code. `what` completes "Cannot ...". */
export function networkError(thrown: unknown, what: string, origin: string): TidemarkError {
  if (thrown instanceof TidemarkError) return thrown;
  const { code = "", message } = thrown as NodeJS.ErrnoException;
  if (CERTIFICATE_CODES.has(code)) return peerNotAccepted(thrown, what, origin);
  if (REFUSING_ALERT.test(code)) return ourselvesNotAccepted(thrown, what, origin);
  if (/^ERR_SSL_|^EPROTO/.test(code)) {
    return new TidemarkError(
      "UNREACHABLE",
      `Cannot ${what}: because ${origin} does not speak TLS 1.3 (${code}).`,
      { hint: "Check that address and port are those of a Tidemark host.", cause: thrown },
    );
  }
  const reason = TIMEOUT_CODES.has(code)
    ? `${origin} did not answer in time`
    : `${origin} cannot be reached (${code === "" ? message : code})`;
  return new TidemarkError("UNREACHABLE", `Cannot ${what}: because ${reason}.`, {
    hint: "Check that the host is running and that nothing blocks the way to it.",
    cause: thrown,
  });
}

function peerNotAccepted(thrown: unknown, what: string, origin: string): TidemarkError {
  const { code = "", message } = thrown as NodeJS.ErrnoException;
  const hint =
    code === "ERR_TLS_CERT_ALTNAME_INVALID"
      ? "Use one of the host names in the peer's certificate, or issue it one with this name."
      : "Check that both hosts have valid certificates of the same CA, and their clocks.";
  return new TidemarkError(
    "UNAUTHENTICATED",
    `Cannot ${what}: because the certificate of ${origin} is not accepted (${code}: ${message}).`,
    { hint, cause: thrown },
  );
}

/** The peer ended the connection over our certificate. */
export function ourselvesNotAccepted(thrown: unknown, what: string, origin: string): TidemarkError {
  return new TidemarkError(
    "UNAUTHENTICATED",
    `Cannot ${what}: because ${origin} does not accept this host's certificate.`,
    {
      hint: "Give this host a valid certificate of the CA that the peer accepts, with its host names, for client use.",
      cause: thrown,
    },
  );
}
