import t from "tap";
import { TidemarkError } from "#lib/model/errors.js";
import { MemoryApplicationFreezer, newMemoryApplications } from "#lib/model/memory-freezer.js";
import { applicationFreezerContract } from "../contracts/application-freezer.js";
import { until } from "../support/until.js";

void applicationFreezerContract(t, "in memory", async () => {
  const applications = newMemoryApplications();
  let release = () => {};
  const hang = () => new Promise<void>((resolve) => (release = resolve));
  return {
    open: () => new MemoryApplicationFreezer(applications),
    isFrozen: async () => applications.isFrozen,
    hangFreezing: async () => void (applications.onFreeze = hang),
    isFreezing: async () => {
      await until("a freeze", 10_000, () => applications.beginning.size > 0);
    },
    failFreezing: async () => {
      applications.onFreeze = () => Promise.reject(new TidemarkError("IO_ERROR", "It is broken."));
    },
    hangThawing: async () => void (applications.onThaw = hang),
    heal: async () => {
      delete applications.onFreeze;
      delete applications.onThaw;
      release();
    },
  };
});
