import type { HostService, RouteParameters } from "../management/host-service.js";
import type { RouteReply } from "../management/routes.js";
import type {
  DiskResizeRequest,
  FailoverRequest,
  HostStatus,
  VmEnableRequest,
  VmGroupRequest,
  VmStatus,
} from "../management/schemas.js";
import type {
  BackupBeginRequest,
  BackupBody,
  BitmapAddRequest,
  BitmapBody,
} from "../management/bitmap-schemas.js";
import { TidemarkError } from "../model/errors.js";
import { findGroupPoints } from "../model/group-points.js";
import type { RelationshipStatus, ReplicationEvent } from "../model/relationship.js";
import type { PointExport } from "../model/replica-exports.js";
import type { ReplicaVmSummary } from "../replica/replica-store.js";
import { EventQueue } from "./event-queue.js";
import type { HostParts } from "./host-parts.js";
import type { VmDefinition } from "./open-vm-disks.js";
import type { ServedVm } from "./primary-vms.js";
import type { VmBitmaps } from "./vm-bitmaps.js";

/** The management API's functions over the parts of a running host. */
export class LocalHostService implements HostService {
  readonly #parts: HostParts;
  readonly #version: string;

  constructor(parts: HostParts, version: string) {
    this.#parts = parts;
    this.#version = version;
  }

  async hostStatus(): Promise<HostStatus> {
    const { configuration, peerServer, startedAtMs, ioEngine } = this.#parts;
    return {
      hostName: configuration.hostName,
      version: this.#version,
      processId: process.pid,
      startedAtMs,
      peerAddress: peerServer === null ? null : `${configuration.peers.host}:${peerServer.port}`,
      replicaRoot: configuration.replicaRoot,
      ioEngine,
      vms: await this.vmList(),
    };
  }

  async vmList(): Promise<VmStatus[]> {
    const primaries = this.#parts.vms.definitions().map((vm) => this.#primaryStatus(vm));
    const replicas = (await this.#replicaSummaries()).map((summary) =>
      this.#replicaStatus(summary),
    );
    return Promise.all([...primaries, ...replicas]);
  }

  async vmEnable(request: VmEnableRequest): Promise<VmStatus> {
    const { vms, engine } = this.#parts;
    const { definition } = await vms.add(request);
    const { vmId, targetId } = definition;
    const { replicaUrl, intervalMs, compressionLevel, group } = request;
    try {
      await engine.enable({ vmId, targetId, replicaUrl, intervalMs, compressionLevel, group });
    } catch (thrown) {
      await vms.remove(vmId);
      throw thrown;
    }
    return this.#primaryStatus(definition);
  }

  async vmStatus(_body: object, { vm }: RouteParameters): Promise<VmStatus> {
    const definition = this.#parts.vms.find(vm ?? "");
    if (definition !== null) return this.#primaryStatus(definition);
    return this.#replicaStatus(await this.#replicaOf(vm));
  }

  async vmSuspend(body: object, parameters: RouteParameters): Promise<VmStatus> {
    await this.#parts.engine.suspend(this.#primaryOf(parameters.vm).vmId);
    return this.vmStatus(body, parameters);
  }

  async vmResume(body: object, parameters: RouteParameters): Promise<VmStatus> {
    await this.#parts.engine.resume(this.#primaryOf(parameters.vm).vmId);
    return this.vmStatus(body, parameters);
  }

  async vmRemove(_body: object, { vm }: RouteParameters): Promise<Record<string, never>> {
    const { vmId } = this.#primaryOf(vm);
    await this.#parts.engine.remove(vmId);
    await this.#parts.vms.remove(vmId);
    return {};
  }

  async vmGroup({ group }: VmGroupRequest, { vm }: RouteParameters): Promise<VmStatus> {
    const definition = this.#primaryOf(vm);
    await this.#parts.engine.setGroup(definition.vmId, group);
    return this.#primaryStatus(definition);
  }

  async groupList(): Promise<RouteReply<"groupList">> {
    return [...this.#parts.engine.groups()];
  }

  async groupPointList(
    _body: object,
    { group }: RouteParameters,
  ): Promise<RouteReply<"groupPointList">> {
    const store = this.#requireReplicaStore();
    const vms = await Promise.all(
      (await store.listVms()).map(async ({ vmId }) => ({ vmId, points: await store.points(vmId) })),
    );
    return [...findGroupPoints(group ?? "", vms)];
  }

  async diskResize(
    { sizeBytes, ...options }: DiskResizeRequest,
    { vm, disk }: RouteParameters,
  ): Promise<VmStatus> {
    const definition = this.#primaryOf(vm);
    await this.#parts.vms.resizeDisk(definition, disk ?? "", sizeBytes, options);
    return this.#primaryStatus(definition);
  }

  async bitmapList(_body: object, { vm }: RouteParameters): Promise<BitmapBody[]> {
    return (await this.#bitmapsOf(vm)).list();
  }

  async bitmapAdd(request: BitmapAddRequest, { vm }: RouteParameters): Promise<BitmapBody> {
    return (await this.#bitmapsOf(vm)).add(request);
  }

  async bitmapRemove(
    _body: object,
    { vm, bitmap }: RouteParameters,
  ): Promise<Record<string, never>> {
    await (await this.#bitmapsOf(vm)).remove(bitmap ?? "");
    return {};
  }

  async backupBegin(
    request: BackupBeginRequest,
    { vm, bitmap }: RouteParameters,
  ): Promise<BackupBody> {
    return (await this.#bitmapsOf(vm)).begin(bitmap ?? "", request);
  }

  async backupCommit(
    _body: object,
    { vm, bitmap }: RouteParameters,
  ): Promise<Record<string, never>> {
    await (await this.#bitmapsOf(vm)).commit(bitmap ?? "");
    return {};
  }

  async backupAbandon(
    _body: object,
    { vm, bitmap }: RouteParameters,
  ): Promise<Record<string, never>> {
    await (await this.#bitmapsOf(vm)).abandon(bitmap ?? "");
    return {};
  }

  async pointList(_body: object, { vm }: RouteParameters): Promise<RouteReply<"pointList">> {
    const { vmId } = await this.#replicaOf(vm);
    return [...(await this.#requireReplicaStore().points(vmId))];
  }

  testFailover(
    request: FailoverRequest,
    { vm }: RouteParameters,
  ): Promise<RouteReply<"testFailover">> {
    return this.#openPoint(vm, request.pointId, "test-failover");
  }

  failover(request: FailoverRequest, { vm }: RouteParameters): Promise<RouteReply<"failover">> {
    return this.#openPoint(vm, request.pointId, "failover");
  }

  async exportClose(_body: object, parameters: RouteParameters): Promise<Record<string, never>> {
    const exports = this.#parts.pointExports;
    if (exports === null) throw noReplica();
    await exports.closeExport(parameters.export ?? "");
    return {};
  }

  async *events(signal: AbortSignal): AsyncGenerator<ReplicationEvent> {
    const queue = new EventQueue<ReplicationEvent>();
    const unsubscribe = this.#parts.engine.subscribe((event) => queue.push(event));
    signal.addEventListener("abort", () => queue.end(), { once: true });
    try {
      yield* queue;
    } finally {
      unsubscribe();
    }
  }

  async #openPoint(
    vm: string | undefined,
    pointId: string | undefined,
    kind: PointExport["kind"],
  ): Promise<RouteReply<"failover">> {
    const { vmId, head } = await this.#replicaOf(vm);
    const exports = this.#parts.pointExports;
    const chosen = pointId ?? head?.pointId;
    if (exports === null) throw noReplica();
    if (chosen === undefined) {
      throw new TidemarkError(
        "CONFLICT",
        `Cannot open a recovery point of ${vm ?? ""}: because it has none yet.`,
        {
          hint: "Wait until the initial replication has ended.",
        },
      );
    }
    return copyOf(await exports.openExport(vmId, chosen, kind));
  }

  async #primaryStatus(definition: VmDefinition): Promise<VmStatus> {
    const { vmId, name } = definition;
    const served = await this.#parts.vms.served(vmId).catch(() => null);
    const relationship = await this.#parts.engine.status(vmId).catch(() => null);
    return {
      vmId,
      name,
      role: "primary",
      disks: definition.disks.map((disk, index) => ({
        diskId: disk.diskId,
        name: disk.name,
        path: disk.path,
        sizeBytes: served?.disks[index]?.sizeBytes ?? 0,
        uri: uriOf(served, disk.name),
      })),
      relationship: relationship === null ? null : relationshipBody(relationship),
      replica: null,
    };
  }

  async #replicaStatus({ vmId, vm, head, pointCount }: ReplicaVmSummary): Promise<VmStatus> {
    const status = await this.#requireReplicaStore()
      .status(vmId)
      .catch(() => null);
    const exports = this.#parts.pointExports?.list().filter((entry) => entry.vmId === vmId) ?? [];
    return {
      vmId,
      name: vm?.name ?? vmId,
      role: "replica",
      disks: (vm?.disks ?? []).map((disk) => ({
        diskId: disk.diskId,
        name: disk.name,
        sizeBytes: disk.sizeBytes,
        path: null,
        uri: null,
      })),
      relationship: null,
      replica: {
        head,
        pointCount,
        storedBytes: status?.storedBytes ?? 0,
        exports: exports.map(copyOf),
      },
    };
  }

  async #bitmapsOf(vm: string | undefined): Promise<VmBitmaps> {
    return (await this.#parts.vms.served(this.#primaryOf(vm).vmId)).bitmaps;
  }

  #primaryOf(vm: string | undefined): VmDefinition {
    const definition = this.#parts.vms.find(vm ?? "");
    if (definition === null) throw noSuchVm(vm);
    return definition;
  }

  async #replicaOf(vm: string | undefined): Promise<ReplicaVmSummary> {
    const matches = (await this.#replicaSummaries()).filter(
      (summary) => summary.vmId === vm || summary.vm?.name === vm,
    );
    const [match] = matches;
    if (match === undefined) throw noSuchVm(vm);
    if (matches.length === 1) return match;
    throw new TidemarkError(
      "CONFLICT",
      `Cannot tell which VM ${vm ?? ""} is: because ${matches.length} replicas have that name.`,
      {
        hint: "Use its id instead; `tidemark vm status --json` shows the ids.",
      },
    );
  }

  async #replicaSummaries(): Promise<readonly ReplicaVmSummary[]> {
    return (await this.#parts.replicaStore?.listVms()) ?? [];
  }

  #requireReplicaStore() {
    const { replicaStore } = this.#parts;
    if (replicaStore === null) throw noReplica();
    return replicaStore;
  }
}

function uriOf(served: ServedVm | null, exportName: string): string | null {
  return served === null ? null : served.server.uriOf(exportName);
}

function relationshipBody(status: RelationshipStatus): NonNullable<VmStatus["relationship"]> {
  return { ...status, healthReasons: [...status.healthReasons] };
}

function copyOf(entry: PointExport): RouteReply<"failover"> {
  return { ...entry, disks: [...entry.disks] };
}

function noSuchVm(name: string | undefined): TidemarkError {
  return new TidemarkError("NOT_FOUND", `Cannot find VM ${name ?? ""} on this host.`, {
    hint: "`tidemark vm status` lists the VMs.",
  });
}

function noReplica(): TidemarkError {
  return new TidemarkError(
    "CONFLICT",
    "Cannot do that here: because this host keeps no replicas.",
    {
      hint: "Ask the replica host, or set replicaRoot in this host's host.json.",
    },
  );
}
