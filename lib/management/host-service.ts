import type { ReplicationEvent } from "../model/relationship.js";
import type { RouteBody, RouteName, RouteReply } from "./routes.js";

export interface RouteParameters {
  /** Id or name. */
  readonly vm?: string;
  /** Id or name. */
  readonly disk?: string;
  /** Id or name. */
  readonly group?: string;
  readonly bitmap?: string;
  /** Id or number. */
  readonly point?: string;
  readonly export?: string;
  readonly copy?: string;
  readonly plan?: string;
  /** An id, or "last". */
  readonly run?: string;
}

/** A function for each route. */
export type Handlers = {
  readonly [Name in RouteName]: (
    body: RouteBody<Name>,
    parameters: RouteParameters,
  ) => Promise<RouteReply<Name>>;
};

/** What a host does for its administrators: a function for each route. */
export interface HostService extends Handlers {
  /** Until the signal aborts. */
  events(signal: AbortSignal): AsyncIterable<ReplicationEvent>;
}
