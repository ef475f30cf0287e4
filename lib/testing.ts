/**
 * Devices for tests of software that embeds Tidemark: a disk in memory, and a
 * wrapper that makes requests fail, stall or take partial effect.
 *
 * @packageDocumentation
 */
import { binding, type NativeDevice, type NativeFaultDevice } from "./tracking/binding.js";

export type { IoOp, NativeDevice, NativeFaultDevice } from "./tracking/binding.js";

/** A disk of zeroes in memory. */
export function memoryDevice(sizeBytes: number): NativeDevice {
  return binding.memoryDevice(sizeBytes);
}

/** Wraps a device, taking it over; `TrackedDisk.track` then takes over the wrapper. */
export function faultDevice(inner: NativeDevice): NativeFaultDevice {
  return binding.faultDevice(inner);
}
