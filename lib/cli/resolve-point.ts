import type { Command } from "commander";
import { TidemarkError } from "../model/errors.js";
import { clientOf } from "./context.js";

/** For an option's help. */
export const POINT_NAMES =
  "its number or id, or application-consistent for the newest of that kind (default: the newest)";

/** The id of a point that was named by its number, its id or its kind. */
export async function resolvePoint(
  command: Command,
  vm: string,
  point: string | undefined,
): Promise<string | undefined> {
  const isKind = point === "application-consistent";
  if (point === undefined || (!isKind && !/^\d+$/.test(point))) return point;
  const points = await clientOf(command).call("pointList", {}, { vm });
  const found = isKind
    ? points.findLast(({ consistency }) => consistency === "application")
    : points.find(({ sequence }) => sequence === Number(point));
  if (found !== undefined) return found.pointId;
  const what = isKind ? "an application-consistent recovery point" : `recovery point ${point}`;
  throw new TidemarkError("NOT_FOUND", `Cannot find ${what} of ${vm}.`, {
    hint: `tidemark vm points ${vm} lists them.`,
  });
}
