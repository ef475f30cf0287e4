/** The drawing and the table in docs/relationship-states.md, from the state machine itself. */
import { readFileSync } from "node:fs";
import { TRANSITIONS, type Transition } from "../lib/replication/transitions.js";

export const STATES_PATH = "docs/relationship-states.md";

const BEGIN = "<!-- Generated from lib/replication/transitions.ts by `npm run docs`. -->";
const END = "<!-- The end of what is generated. -->";

/** The page with its generated part as it should be. */
export function statesDocument(root: string): string {
  const page = readFileSync(`${root}/${STATES_PATH}`, "utf8");
  const [begin, end] = [page.indexOf(BEGIN), page.indexOf(END)];
  if (begin < 0 || end < begin) {
    throw new Error(`Cannot write ${STATES_PATH}: because its marks are gone.`);
  }
  const generated = [BEGIN, drawing(), table(), END].join("\n\n");
  return page.slice(0, begin) + generated + page.slice(end + END.length);
}

function drawing(): string {
  const edges = new Map<string, string[]>();
  for (const row of TRANSITIONS.filter(({ from, to }) => from !== to)) {
    const edge = `${idOf(row.from)} --> ${idOf(row.to)}`;
    edges.set(edge, [...(edges.get(edge) ?? []), labelOf(row)]);
  }
  const states = [...new Set(TRANSITIONS.flatMap(({ from, to }) => [from, to]))];
  const lines = [
    "stateDiagram-v2",
    "  [*] --> ready",
    ...states
      .filter((state) => state !== idOf(state))
      .map((state) => `  ${idOf(state)} : ${state}`),
    ...[...edges].map(([edge, labels]) => `  ${edge} : ${labels.join(", ")}`),
  ];
  return `\`\`\`mermaid\n${lines.join("\n")}\n\`\`\``;
}

function table(): string {
  const rows = TRANSITIONS.map(
    ({ from, event, guard, to }) =>
      `| \`${from}\` | \`${event}\` |${guard === undefined ? "" : ` ${guard}`} | \`${to}\` |`,
  );
  return ["| from | event | only if | to |", "|---|---|---|---|", ...rows].join("\n");
}

function labelOf({ event, guard }: Transition): string {
  return guard === undefined ? event : `${event} (${guard})`;
}

/** A name that mermaid takes. */
function idOf(state: string): string {
  return state.replaceAll("-", "_");
}
