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
import { VERSION } from "./version.js";

/**
 * What the command line does in its own process. Most commands only speak to a
 * running host: what needs the addon and the rest is loaded when it is asked for.
 */
export const localCommands: LocalCommands = {
  async initHost(options: InitHostOptions): Promise<HostFiles> {
    const { HostPaths, writeConfiguration } = await import("./host-configuration.js");
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
    const { Host } = await import("./host.js");
    const log = (message: string) => process.stderr.write(`tidemark: ${message}\n`);
    await using host = await Host.start(directory, VERSION, log);
    const { configuration, peerServer, settings } = host.parts;
    const peers =
      peerServer === null || !settings.values.acceptsReplicas
        ? "no replicas accepted"
        : `peers at ${configuration.peers.host}:${peerServer.port}`;
    onReady(`Host ${configuration.hostName} is ready: API at ${host.paths.apiSocket}, ${peers}.`);
    if (!signal.aborted) await once(signal, "abort");
  },

  async initPki(directory: string, name: string) {
    const { createCa } = await import("../security/pki.js");
    const { certificatePath } = await createCa(directory, { commonName: name });
    return { caCertificate: certificatePath };
  },

  async issueCertificate(options: IssueOptions) {
    const { issueCertificate } = await import("../security/pki.js");
    const { certificatePath, keyPath } = await issueCertificate(
      options.caDirectory,
      options.hostNames,
      {
        outputDirectory: options.outDirectory,
      },
    );
    return { certificate: certificatePath, key: keyPath };
  },

  async track(
    options: TrackOptions,
    signal: AbortSignal,
    onReady: (state: TrackState) => void,
    onNotice: (line: string) => void,
  ) {
    const { trackDisk } = await import("./track-disk.js");
    return trackDisk(options, signal, onReady, onNotice);
  },

  async exportState({ diskPath, bitmapPath, statePath }) {
    const { exportDiskState } = await import("../tracking/disk-state.js");
    return exportDiskState({ bitmapPath: bitmapPath ?? `${diskPath}.tidemark`, statePath });
  },

  async importState({ diskPath, bitmapPath, statePath, diskId }) {
    const { importDiskState } = await import("../tracking/disk-state.js");
    const foundCauses = await importDiskState({
      path: diskPath,
      statePath,
      ...(bitmapPath === null ? {} : { bitmapPath }),
      ...(diskId === null ? {} : { diskId }),
    });
    return { foundCauses };
  },

  async takeBackState({ diskPath, bitmapPath, statePath }) {
    const { takeBackDiskState } = await import("../tracking/disk-state.js");
    await takeBackDiskState({ bitmapPath: bitmapPath ?? `${diskPath}.tidemark`, statePath });
  },

  async describeState(statePath) {
    const { describeDiskState } = await import("../tracking/disk-state.js");
    return describeDiskState(statePath);
  },

  async attach(options, signal, onState) {
    const { attachUntil } = await import("./attach-disk.js");
    return attachUntil(options, signal, onState);
  },

  async detach(options) {
    const { detachDisk } = await import("./detach-disk.js");
    return detachDisk(options);
  },

  async demo(options: DemoOptions, signal: AbortSignal) {
    const { runDemo } = await import("./demo/run-demo.js");
    return runDemo(options, signal);
  },
};
