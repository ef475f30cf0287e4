import { requireSafeScript } from "../hypervisor/require-safe-script.js";

/** Throws unless each that is named may be run. */
export async function requireScripts(settings: {
  readonly freezeScript?: string | null;
  readonly thawScript?: string | null;
}): Promise<void> {
  for (const path of [settings.freezeScript, settings.thawScript]) {
    if (path !== undefined && path !== null) await requireSafeScript(path);
  }
}
