import t from "tap";
import { MemoryStateStore } from "#lib/model/memory-state-store.js";
import { stateStoreContract } from "../contracts/state-store.js";

void stateStoreContract(t, "memory", async () => new MemoryStateStore());
