import { readdir, readFile } from "node:fs/promises";
import { TidemarkError, toTidemarkError } from "../model/errors.js";
import type { AttachmentPlace, AttachmentRecord } from "./attachment-record.js";
import { binding, type NativeLinkKeeper, type NativeNbdAttachment } from "./binding.js";
import type { KernelDevice, KernelDevices, KernelDeviceSettings } from "./kernel-device.js";

const ANY_DEVICE = -1;
const DEVICE_PATH = /^\/dev\/nbd(\d{1,5})$/;

/** /dev/nbdN by the kernel's NBD client. */
export const kernelNbd: KernelDevices = {
  async connect(place, diskId, settings) {
    const attachment = attachmentOf(place, diskId, settings);
    const wanted = settings.devicePath === null ? ANY_DEVICE : indexOf(settings.devicePath);
    return nbdDevice(attachment, await binding.connectKernelNbd(attachment, wanted));
  },

  async resume(place, diskId, settings, record) {
    const attachment = attachmentOf(place, diskId, settings);
    const index = await leftBehind(attachment.backendId, record);
    if (index === null) return null;
    await binding.reconnectKernelNbd(attachment, index);
    return nbdDevice(attachment, index);
  },

  async drop(_place, record) {
    await binding.dropKernelNbd(indexOf(record.devicePath));
  },
};

async function nbdDevice(attachment: NativeNbdAttachment, index: number): Promise<KernelDevice> {
  const keeper: NativeLinkKeeper = await binding.keepLinks(attachment, index);
  return {
    kind: "nbd",
    devicePath: `/dev/nbd${index}`,
    fuse: null,
    async resize(sizeBytes) {
      await binding.resizeKernelNbd(attachment, index, sizeBytes).catch((thrown: unknown) => {
        throw toTidemarkError(thrown);
      });
    },
    async detach() {
      await binding.disconnectKernelNbd(index).catch((thrown: unknown) => {
        throw toTidemarkError(thrown);
      });
      await keeper.close();
    },
    release: () => keeper.close(),
  };
}

function attachmentOf(
  place: AttachmentPlace,
  diskId: string,
  settings: KernelDeviceSettings,
): NativeNbdAttachment {
  return {
    unixPath: place.socket,
    exportName: "",
    connectionCount: settings.connectionCount,
    blockBytes: settings.blockBytes,
    requestLimitSeconds: Math.ceil(settings.requestLimitMs / 1000),
    reconnectLimitSeconds: Math.ceil(settings.reconnectLimitMs / 1000),
    backendId: `tidemark:${diskId}`,
  };
}

function indexOf(devicePath: string): number {
  const digits = DEVICE_PATH.exec(devicePath)?.[1];
  if (digits !== undefined) return Number(digits);
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `Cannot use ${devicePath} as an NBD device: it is not like /dev/nbd0.`,
  );
}

/**
 * The connected device of that backend. Kernels before 5.14 do not name a
 * device's backend: there the record's word is taken.
 */
async function leftBehind(
  backendId: string,
  record: AttachmentRecord | null,
): Promise<number | null> {
  const recorded = record?.kind === "nbd" ? record.devicePath.slice("/dev/".length) : null;
  const names = (await readdir("/sys/block")).filter((name) => name.startsWith("nbd"));
  for (const name of names) {
    const read = (file: string) => readFile(`/sys/block/${name}/${file}`, "utf8").catch(() => null);
    if ((await read("pid")) === null) continue;
    const backend = (await read("backend"))?.trim() ?? null;
    if (backend === backendId || (backend === null && name === recorded)) {
      return indexOf(`/dev/${name}`);
    }
  }
  return null;
}
