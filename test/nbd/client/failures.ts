/** The server did what the specification forbids with MUST. */
export class Violation extends Error {}

/** The connection ended where an answer was due. */
export class ConnectionEnded extends Error {}

/** Nothing came for so long that nothing will. */
export class NoAnswer extends Error {}
