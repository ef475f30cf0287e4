import type { Durability } from "../model/durability.js";
import type { SuspicionCause } from "../model/suspicion.js";
import type { DiskStateCommands } from "./disk-state-commands.js";

/** What the CLI does in its own process, without a running host; the daemon provides it. */
export interface LocalCommands extends DiskStateCommands {
  initHost(options: InitHostOptions): Promise<HostFiles>;
  /** Runs the service until the signal aborts. `onReady` when it answers. */
  startHost(
    hostDirectory: string,
    signal: AbortSignal,
    onReady: (line: string) => void,
  ): Promise<void>;
  initPki(directory: string, name: string): Promise<{ readonly caCertificate: string }>;
  issueCertificate(
    options: IssueOptions,
  ): Promise<{ readonly certificate: string; readonly key: string }>;
  /** Serves one tracked disk until the signal aborts. `onNotice`: what an administrator may want to know. */
  track(
    options: TrackOptions,
    signal: AbortSignal,
    onReady: (state: TrackState) => void,
    onNotice: (line: string) => void,
  ): Promise<void>;
  /** Gives a tracked disk as a block device of this machine until the signal aborts. */
  attach(
    options: AttachCommandOptions,
    signal: AbortSignal,
    onState: (state: AttachState) => void,
  ): Promise<void>;
  /** Ends an attachment of another process, or of one that is gone. */
  detach(options: DetachOptions): Promise<DetachState>;
  demo(options: DemoOptions, signal: AbortSignal): Promise<void>;
}

export interface InitHostOptions {
  readonly directory: string;
  readonly hostName: string;
  /** Where peers reach this host: numeric address and port (0 takes any). */
  readonly listenHost: string;
  readonly listenPort: number;
  /** Where replicas are kept; null: this host accepts none. */
  readonly replicaRoot: string | null;
}

export interface HostFiles {
  readonly configuration: string;
  readonly pkiDirectory: string;
}

export interface IssueOptions {
  readonly caDirectory: string;
  readonly outDirectory: string;
  readonly hostNames: readonly string[];
}

export interface AttachCommandOptions {
  readonly diskPath: string;
  readonly bitmapPath: string | null;
  readonly kind: "auto" | "nbd" | "loop";
  readonly devicePath: string | null;
  readonly connectionCount: number | null;
  readonly requestLimitMs: number | null;
  readonly reconnectLimitMs: number | null;
}

export interface AttachState {
  readonly event: "attached" | "detached" | "released";
  readonly devicePath: string;
  readonly kind: "nbd" | "loop";
  readonly isResumed: boolean;
  readonly sizeBytes: number;
  readonly bitmapPath: string;
  readonly reconnectLimitMs: number;
}

export interface DetachOptions {
  /** The device, the disk's path or its id. */
  readonly name: string;
  /** Also when nobody serves it any more: what was not written is lost. */
  readonly force: boolean;
}

export interface DetachState {
  readonly devicePath: string;
  readonly diskPath: string;
}

export interface TrackOptions {
  readonly diskPath: string;
  readonly socketPath: string | null;
  readonly listenHost: string | null;
  readonly listenPort: number;
  readonly allowPlain: boolean;
  /** host.crt, host.key and ca.crt: clients must use TLS and show a certificate of that CA. */
  readonly tlsDirectory: string | null;
  /** Names that clients' certificates must have one of; empty: any. */
  readonly allowedClients: readonly string[];
  readonly bitmapPath: string | null;
  readonly tracking: boolean;
  /** Past the page cache. */
  readonly direct: boolean;
  readonly granularityBytes: number | null;
  readonly durability: Durability;
  /** For an image that several hosts see; null: only this one does. */
  readonly sharedStorage: { readonly takeOver: boolean; readonly leaseMs?: number } | null;
}

export interface TrackState {
  readonly uri: string;
  readonly sizeBytes: number;
  readonly bitmapPath: string | null;
  readonly granularityBytes: number | null;
  readonly ioEngine: string;
  /** Why everything is suspect for every target; none when nothing is. */
  readonly foundCauses: readonly SuspicionCause[];
}

export interface DemoOptions {
  /** Run the story to its end, then exit. */
  readonly once: boolean;
  readonly directory: string | null;
  readonly keep: boolean;
  /** Of the VM's disks in all. */
  readonly sizeBytes: number;
  readonly json: boolean;
}
