import { createHash } from "node:crypto";
import { generatedPieces } from "./generated-pieces.mjs";
import type { Recipe } from "./hosts.js";

/** Of the record bytes that a lane makes of the recipe. */
export function sha256Of(recipe: Recipe): string {
  const hash = createHash("sha256");
  for (const piece of generatedPieces(recipe)) hash.update(piece);
  return hash.digest("hex");
}
