/**
 * The object with some methods replaced, also later on; the others keep their
 * `this`. While `isDead`, calls have no answer.
 */
export function override<T extends object>(
  inner: T,
  parts: Partial<T>,
  isDead: () => boolean = () => false,
): T {
  return new Proxy(inner, {
    get(target, key) {
      const owner: object = Object.hasOwn(parts, key) ? parts : target;
      const value: unknown = Reflect.get(owner, key, owner);
      if (typeof value !== "function") return value;
      return (...args: unknown[]): unknown =>
        isDead() ? new Promise(() => {}) : Reflect.apply(value, owner, args);
    },
  });
}
