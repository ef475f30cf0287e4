import type { StateDocument, StateStore } from "#lib/model/state-store.js";
import { override } from "../override.js";

/** A store that is listed after every step: what it lists is read once for each change. */
export function quickList(store: StateStore, order: (document: StateDocument) => number) {
  const listed = new Map<string, readonly StateDocument[]>();
  const changing =
    <A extends unknown[], T>(change: (...args: A) => Promise<T>) =>
    async (...args: A): Promise<T> => {
      listed.clear();
      const result = await change(...args);
      listed.clear();
      return result;
    };
  return override<StateStore>(store, {
    put: changing((...put) => store.put(...put)),
    delete: changing((...key) => store.delete(...key)),
    list: async (prefix) => {
      const known = listed.get(prefix);
      if (known !== undefined) return known;
      const documents = await store.list(prefix);
      const sorted = [...documents].sort((a, b) => order(a) - order(b));
      listed.set(prefix, sorted);
      return sorted;
    },
  });
}
