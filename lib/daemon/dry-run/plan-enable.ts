/** What `vm enable` would do, found out without changing anything on either side. */
import type { EnablePlanBody } from "../../management/dry-run-schemas.js";
import type { VmEnableRequest } from "../../management/schemas.js";
import { toTidemarkError } from "../../model/errors.js";
import type { PeerTestReport } from "../../model/peer-test.js";
import { requireScripts } from "../require-scripts.js";
import type { HostParts } from "../host-parts.js";
import type { PeerPlace } from "../peers.js";
import { type DiskInspection, inspectDisk } from "./inspect-disk.js";
import { measureWay, type WayMeasurement } from "./measure-way.js";

type Refusal = EnablePlanBody["refusals"][number];

const SAMPLES_OF_ALL_DISKS = 16;
const NOTHING: DiskInspection = { sizeBytes: 0, allocatedBytes: 0, samples: [], refusal: null };

export async function planEnable(
  parts: HostParts,
  request: VmEnableRequest,
): Promise<EnablePlanBody> {
  const refusals: Refusal[] = [];
  const refuse = (thrown: unknown) => void refusals.push(refusalOf(thrown));
  await parts.vms.requireAddable(request).catch(refuse);
  await requireSettings(parts, request).catch(refuse);
  const inspections = await inspectAll(request, refuse);
  const replicated = inspections.filter((_, index) => request.disks[index]?.isExcluded !== true);
  const allocatedBytes = sum(replicated, (disk) => disk.allocatedBytes);
  const place = { replicaUrl: request.replicaUrl, proxyUrl: request.proxyUrl ?? null };
  const peer = await parts.peers.test(place, allocatedBytes);
  refusals.push(...refusalsOf(peer));
  const samples = replicated.flatMap((disk) => disk.samples);
  const measured = peer.isReady
    ? await measure(parts, place, request, samples).catch(refuse)
    : null;
  return {
    name: request.name,
    disks: request.disks.map(({ path, name }, index) => {
      const { sizeBytes, allocatedBytes: bytes } = inspections[index] ?? NOTHING;
      return { name: name ?? null, path, sizeBytes, allocatedBytes: bytes };
    }),
    sizeBytes: sum(inspections, (disk) => disk.sizeBytes),
    allocatedBytes,
    ...estimate(allocatedBytes, measured ?? null),
    peer,
    refusals,
  };
}

/** By what the samples took. Nothing to send takes no time. */
function estimate(
  allocatedBytes: number,
  measured: WayMeasurement | null,
): Pick<EnablePlanBody, "measured" | "estimatedSendBytes" | "estimatedDurationMs"> {
  if (allocatedBytes === 0) return { measured, estimatedSendBytes: 0, estimatedDurationMs: 0 };
  if (measured === null) return { measured, estimatedSendBytes: null, estimatedDurationMs: null };
  const share = allocatedBytes / measured.contentBytes;
  return {
    measured,
    estimatedSendBytes: Math.round(measured.wireBytes * share),
    estimatedDurationMs: Math.round(measured.durationMs * share),
  };
}

async function inspectAll(
  { disks }: VmEnableRequest,
  refuse: (thrown: unknown) => void,
): Promise<DiskInspection[]> {
  const inspections: DiskInspection[] = [];
  const sampleCount = Math.max(1, Math.floor(SAMPLES_OF_ALL_DISKS / disks.length));
  for (const { path } of disks) {
    const found = await inspectDisk(path, sampleCount).catch((thrown: unknown) => {
      refuse(thrown);
      return NOTHING;
    });
    if (found.refusal !== null) refuse(found.refusal);
    inspections.push(found);
  }
  return inspections;
}

async function requireSettings({ engine }: HostParts, request: VmEnableRequest): Promise<void> {
  const { name: _name, disks: _disks, initialStartAtMs, ...settings } = request;
  await requireScripts(request);
  engine.requireEnableable({ ...settings, vmId: NEW_ID, targetId: NEW_ID }, initialStartAtMs);
}

/** A new VM's id is drawn when it is enabled. */
const NEW_ID = "00000000-0000-0000-0000-000000000000";

async function measure(
  { peers }: HostParts,
  place: PeerPlace,
  { compression }: VmEnableRequest,
  samples: readonly Uint8Array[],
): Promise<WayMeasurement | null> {
  await using endpoint = peers.connect(place, compression);
  return await measureWay(samples, (pieces) => endpoint.probe(pieces));
}

function refusalsOf({ steps }: PeerTestReport): Refusal[] {
  return steps
    .filter(({ outcome }) => outcome === "failed")
    .map(({ code, detail, hint }) => ({ code: code ?? "UNREACHABLE", message: detail, hint }));
}

function refusalOf(thrown: unknown): Refusal {
  const { code, message, hint } = toTidemarkError(thrown);
  return { code, message, hint: hint ?? null };
}

function sum<T>(all: readonly T[], of: (one: T) => number): number {
  return all.reduce((total, one) => total + of(one), 0);
}
