/** How the server behind an NBD backing is doing. */
export interface UpstreamStatus {
  readonly isConnected: boolean;
  readonly connectionCount: number;
  /** How often the server was lost. */
  readonly lossCount: number;
  /** Requests in flight at a loss that were issued again. */
  readonly reissuedCount: number;
  /** Answered writes that no flush had covered and that were sent again. */
  readonly replayedCount: number;
  /** Why the server was lost or cannot be had; empty while all was well. */
  readonly lastError: string;
}
