import { setTimeout as sleep } from "node:timers/promises";

const POLL_MS = 20;

/** Waits for what must come; the limit only ends a wait for what never does. */
export async function until<T>(
  what: string,
  limitMs: number,
  found: () => T | null | undefined | false | Promise<T | null | undefined | false>,
): Promise<T> {
  const deadlineMs = performance.now() + limitMs;
  for (;;) {
    const value = await found();
    if (value !== null && value !== undefined && value !== false) return value;
    if (performance.now() > deadlineMs) throw new Error(`waited ${limitMs} ms in vain for ${what}`);
    await sleep(POLL_MS);
  }
}
