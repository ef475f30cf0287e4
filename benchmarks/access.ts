/** How a load reaches the data: over which kind of socket, and what the page cache does. */
export interface Access {
  readonly transport: "unix" | "tcp";
  /**
   * `warm`: all of the file is in the page cache. `cold`: nothing of it is when a
   * trial begins. `direct`: the servers go past it.
   */
  readonly cache: "warm" | "cold" | "direct";
}

export const WARM: Access = { transport: "unix", cache: "warm" };

/** Behind the load's name; nothing for the usual. */
export function accessName({ transport, cache }: Access): string {
  const parts = [...(transport === "tcp" ? ["TCP"] : []), ...(cache === "warm" ? [] : [cache])];
  return parts.map((part) => `, ${part}`).join("");
}
