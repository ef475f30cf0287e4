/** Calls of the data plane, and of the file system beside it, with their errors made ours. */
import { access } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { TidemarkError, toTidemarkError } from "../model/errors.js";

const IN_USE_RETRY_MS = 20;

export async function retriedWhileInUse(call: () => Promise<void>, limitMs: number): Promise<void> {
  const deadlineMs = performance.now() + limitMs;
  for (;;) {
    try {
      return await rethrown(call);
    } catch (thrown) {
      const { code } = toTidemarkError(thrown);
      if (code !== "IN_USE" || performance.now() >= deadlineMs) throw thrown;
    }
    await sleep(IN_USE_RETRY_MS);
  }
}

export async function isMissing(path: string): Promise<boolean> {
  try {
    await access(path);
    return false;
  } catch {
    return true;
  }
}

/** Names the file in what the data plane could not open. */
export async function opened<T>(path: string, open: () => Promise<T>): Promise<T> {
  try {
    return await open();
  } catch (thrown) {
    const error = toTidemarkError(thrown);
    if (error.message.includes(path)) throw error;
    const options = { cause: thrown, ...(error.hint === undefined ? {} : { hint: error.hint }) };
    throw new TidemarkError(error.code, `Cannot open ${path}: ${error.message}`, options);
  }
}

/** The addon refuses arguments before it makes a promise. */
export async function rethrown<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (thrown) {
    throw toTidemarkError(thrown);
  }
}
