import { binding } from "./binding.js";

/** How this process does file I/O: "io_uring", or "threads" where the kernel refuses it. */
export async function probeIoEngine(): Promise<string> {
  const device = await binding.openFileDevice(process.execPath, true, false, "none");
  const { engine } = device;
  await device.close();
  return engine;
}
