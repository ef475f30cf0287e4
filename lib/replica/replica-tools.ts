import type { NativeBinding } from "../tracking/binding.js";
import type { NativeLayerBinding } from "../tracking/layer-binding.js";
import type { StoreFiles } from "./store-files.js";

/** The part of the addon that the store needs for its layers. */
export type LayerNative = NativeLayerBinding &
  Pick<NativeBinding, "openFileDevice" | "openLayeredDevice">;

/** What all parts of a store work with. */
export interface ReplicaTools {
  readonly files: StoreFiles;
  readonly native: LayerNative;
  readonly nowMs: () => number;
}
