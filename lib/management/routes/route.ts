import { z } from "zod";

export interface Route<Body extends z.ZodType, Reply extends z.ZodType> {
  readonly method: "GET" | "POST" | "PATCH" | "PUT" | "DELETE";
  /** ":vm" takes a VM's id or name, ":disk" that of one of its disks, ":group" a group's, ":bitmap" and ":plan" a name. */
  readonly path: string;
  /** Of a GET: its query, so that the schema takes strings. */
  readonly body: Body;
  readonly reply: Reply;
  readonly summary: string;
}

export function route<Body extends z.ZodType, Reply extends z.ZodType>(
  method: Route<Body, Reply>["method"],
  path: string,
  body: Body,
  reply: Reply,
  summary: string,
): Route<Body, Reply> {
  return { method, path: `/api/v1${path}`, body, reply, summary };
}

export const nothing = z.object({});
