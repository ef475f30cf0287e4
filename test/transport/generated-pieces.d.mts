export interface PiecesRecipe {
  readonly seed: number;
  readonly pieceBytes: number;
  readonly pieceCount: number;
  readonly compressible?: boolean;
}
export function generatedPieces(recipe: PiecesRecipe): Generator<Uint8Array>;
