import type { ReplicationEngine } from "#lib/replication/replication-engine.js";
import { VM_ID } from "./scene.js";

type Administration = (engine: ReplicationEngine, intervalMs: number) => Promise<void>;

/** What an administrator may do at any time; whatever does not fit the state is refused. */
export const ADMINISTRATION: readonly (readonly [string, Administration])[] = [
  ["another interval", (engine, intervalMs) => engine.change(VM_ID, { intervalMs })],
  ["continuous", (engine) => engine.change(VM_ID, { isContinuous: true })],
  ["not continuous", (engine) => engine.change(VM_ID, { isContinuous: false })],
  [
    "another address",
    (engine, port) => engine.change(VM_ID, { replicaUrl: `https://replica.example.com:${port}` }),
  ],
  ["manual resync", (engine) => engine.change(VM_ID, { resync: { mode: "manual" } })],
  ["automatic resync", (engine) => engine.change(VM_ID, { resync: { mode: "automatic" } })],
  ["resync ordered", (engine) => engine.resynchronize(VM_ID)],
  ["first copy cancelled", (engine) => engine.cancelInitial(VM_ID)],
  ["first copy started", (engine) => engine.startInitial(VM_ID)],
];
