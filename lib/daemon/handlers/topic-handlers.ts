import type { Handlers } from "../../management/host-service.js";
import type { RouteName } from "../../management/routes.js";

/** The handlers of one topic's routes: its table's names are the argument. */
export type TopicHandlers<Routes extends object> = Pick<Handlers, keyof Routes & RouteName>;
