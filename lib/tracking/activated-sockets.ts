import { TidemarkError } from "../model/errors.js";

/** A socket that a service manager opened for this process. */
export interface ActivatedSocket {
  readonly fd: number;
  /** Its FileDescriptorName=, or "unknown". */
  readonly name: string;
}

/** sd_listen_fds(3): the first of the descriptors that are handed over. */
const FIRST_FD = 3;
const MOST_SOCKETS = 1024;

/**
 * The sockets that systemd (or another that speaks its protocol) handed over in
 * LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES; none when these are for another
 * process. Takes the variables out of `environment`, so that neither a second call
 * nor a child takes the sockets for its own.
 */
export function activatedSockets(
  environment: NodeJS.ProcessEnv = process.env,
  pid: number = process.pid,
): ActivatedSocket[] {
  const { LISTEN_FDS: count, LISTEN_PID: owner, LISTEN_FDNAMES: names } = environment;
  delete environment["LISTEN_FDS"];
  delete environment["LISTEN_PID"];
  delete environment["LISTEN_FDNAMES"];
  if (count === undefined || owner !== String(pid)) return [];
  if (!/^[0-9]{1,4}$/.test(count) || Number(count) > MOST_SOCKETS) {
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      `Cannot take over the sockets: because LISTEN_FDS=${count} is no number up to ${MOST_SOCKETS}.`,
    );
  }
  const nameOf = (names ?? "").split(":");
  return Array.from({ length: Number(count) }, (_, index) => ({
    fd: FIRST_FD + index,
    name: nameOf[index] || "unknown",
  }));
}
