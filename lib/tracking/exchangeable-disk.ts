import type { ExtentList } from "../model/block-hashes.js";
import type { SuspicionCause } from "../model/suspicion.js";
import { binding, type NativeDevice, type NativeExchangeableDevice } from "./binding.js";
import { rethrown } from "./native-call.js";
import { TrackedDisk } from "./tracked-disk.js";
import type { TrackedDiskOptions } from "./tracked-disk-options.js";

/**
 * A disk that nobody writes to and whose content is exchanged for the next: what differs is
 * marked for every target before it can be read, as a write is. Not while a checkpoint of
 * it is open.
 */
export class ExchangeableDisk {
  readonly tracked: TrackedDisk;
  readonly #device: NativeExchangeableDevice;

  private constructor(tracked: TrackedDisk, device: NativeExchangeableDevice) {
    this.tracked = tracked;
    this.#device = device;
  }

  /** Takes the device over. */
  static async open(
    first: NativeDevice,
    options: TrackedDiskOptions & { readonly path: string; readonly bitmapPath: string },
  ): Promise<ExchangeableDisk> {
    const device = binding.exchangeableDevice(first);
    try {
      return new ExchangeableDisk(await TrackedDisk.track(device, options), device);
    } catch (thrown) {
      await device.close().catch(() => undefined);
      throw thrown;
    }
  }

  /** Durable when it resolves. */
  async mark(extents: ExtentList): Promise<void> {
    const { tracked } = this;
    const pairs = Float64Array.from(extents);
    for (const { targetId } of tracked.targets()) {
      await rethrown(() => tracked.native.markPendingExtents(tracked.slotOf(targetId), pairs));
    }
  }

  /** What differs is not known. Durable when it resolves. */
  async suspect(cause: SuspicionCause): Promise<void> {
    await this.tracked.suspectAll(cause);
  }

  /** Takes the next one over, of the same size, all differences marked. */
  async exchange(next: NativeDevice): Promise<void> {
    await rethrown(() => this.#device.exchange(next));
  }

  async close(): Promise<void> {
    await this.tracked.close();
  }
}
