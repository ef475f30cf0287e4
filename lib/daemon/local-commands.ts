import { once } from "node:events";
import type {
  DemoOptions,
  HostFiles,
  InitHostOptions,
  IssueOptions,
  LocalCommands,
  TrackOptions,
  TrackState,
} from "../cli/local-commands.js";
import { createCa, issueCertificate } from "../security/pki.js";
import { runDemo } from "./demo/run-demo.js";
import { Host } from "./host.js";
import { HostPaths, writeConfiguration } from "./host-configuration.js";
import { trackDisk } from "./track-disk.js";
import { VERSION } from "./version.js";

/** What the command line does in its own process. */
export const localCommands: LocalCommands = {
  async initHost(options: InitHostOptions): Promise<HostFiles> {
    const paths = new HostPaths(options.directory);
    await writeConfiguration(paths, {
      version: 1,
      hostName: options.hostName,
      peers: { host: options.listenHost, port: options.listenPort },
      replicaRoot: options.replicaRoot,
    });
    return { configuration: paths.configuration, pkiDirectory: paths.pki };
  },

  async startHost(directory, signal, onReady): Promise<void> {
    const log = (message: string) => process.stderr.write(`tidemark: ${message}\n`);
    await using host = await Host.start(directory, VERSION, log);
    const { configuration, peerServer } = host.parts;
    const peers =
      peerServer === null
        ? "no replicas accepted"
        : `peers at ${configuration.peers.host}:${peerServer.port}`;
    onReady(`Host ${configuration.hostName} is ready: API at ${host.paths.apiSocket}, ${peers}.`);
    if (!signal.aborted) await once(signal, "abort");
  },

  async initPki(directory: string, name: string) {
    const { certificatePath } = await createCa(directory, { commonName: name });
    return { caCertificate: certificatePath };
  },

  async issueCertificate(options: IssueOptions) {
    const { certificatePath, keyPath } = await issueCertificate(
      options.caDirectory,
      options.hostNames,
      {
        outputDirectory: options.outDirectory,
      },
    );
    return { certificate: certificatePath, key: keyPath };
  },

  track(options: TrackOptions, signal: AbortSignal, onReady: (state: TrackState) => void) {
    return trackDisk(options, signal, onReady);
  },

  demo(options: DemoOptions, signal: AbortSignal) {
    return runDemo(options, signal);
  },
};
