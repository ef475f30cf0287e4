import type { Command } from "commander";
import { TidemarkError } from "../model/errors.js";
import { clientOf } from "./context.js";

/** The id of a point that was named by its number or its id. */
export async function resolvePoint(
  command: Command,
  vm: string,
  point: string | undefined,
): Promise<string | undefined> {
  if (point === undefined || !/^\d+$/.test(point)) return point;
  const points = await clientOf(command).call("pointList", {}, { vm });
  const found = points.find((candidate) => candidate.sequence === Number(point));
  if (found !== undefined) return found.pointId;
  throw new TidemarkError("NOT_FOUND", `Cannot find recovery point ${point} of ${vm}.`, {
    hint: `tidemark vm points ${vm} lists them.`,
  });
}
