import t from "tap";
import { hypervisorContract } from "../contracts/hypervisor.js";
import { missingTool } from "../support/program.js";
import { QEMU, QemuScene, WAYS } from "./qemu-scene.js";

const missing = await missingTool(QEMU, "qemu-img");
if (missing !== null) t.plan(0, `${missing} is not installed`);
else {
  for (const way of Object.keys(WAYS) as (keyof typeof WAYS)[]) {
    void hypervisorContract(t, `QEMU, ${way}`, (t) => QemuScene.make(t, way));
  }
}
