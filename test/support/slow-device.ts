import { faultDevice, memoryDevice, type NativeFaultDevice } from "#lib/testing.js";

/**
 * A disk in memory whose writes wait for the next pulse, so that they are in
 * flight nearly always, whatever the machine.
 */
export class SlowDevice {
  readonly native: NativeFaultDevice;

  constructor(sizeBytes: number) {
    this.native = faultDevice(memoryDevice(sizeBytes));
    this.native.hold("write");
  }

  get heldCount(): number {
    return this.native.heldCount();
  }

  /** What waits goes on; what comes then waits again. */
  pulse(): void {
    this.native.releaseHeld();
    this.native.hold("write");
  }

  /** Writes pass at once from here on. */
  stop(): void {
    this.native.releaseHeld();
  }
}
