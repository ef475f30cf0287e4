import type { HOST_ROUTES } from "../../management/routes/host-routes.js";
import type { HostParts } from "../host-parts.js";
import { describeHost } from "./describe-host.js";
import type { TopicHandlers } from "./topic-handlers.js";

export function hostHandlers(parts: HostParts): TopicHandlers<typeof HOST_ROUTES> {
  return { hostStatus: () => describeHost(parts) };
}
