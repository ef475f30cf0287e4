import t from "tap";
import { hypervisorContract } from "../contracts/hypervisor.js";
import { PrivateLibvirt } from "../support/private-libvirt.js";
import { LibvirtScene } from "./libvirt-scene.js";

const missing = await PrivateLibvirt.missing();
if (missing !== null) t.plan(0, `${missing} is not installed`);
else {
  const libvirt = await PrivateLibvirt.start(t);
  void hypervisorContract(t, "libvirt", (t) => LibvirtScene.make(t, libvirt));
}
