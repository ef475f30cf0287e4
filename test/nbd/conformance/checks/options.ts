import { SeededRandom } from "../../../support/seeded-random.js";
import { ConnectionEnded } from "../../client/failures.js";
import { type Handshake, metaContextData } from "../../client/handshake.js";
import { isLost } from "../../client/transmission.js";
import { counted, ERR, nameOf, OPT, REP, u32 } from "../../client/wire.js";
import type { Check, CheckContext } from "../check.js";

const ALLOCATION = "base:allocation";
const ORDERS = 12;

async function structured(c: CheckContext): Promise<Handshake> {
  const handshake = await c.handshake();
  c.offered(await handshake.negotiateStructured(), "structured replies");
  return handshake;
}

/** A handshake that offers metadata contexts. */
async function withContexts(c: CheckContext): Promise<Handshake> {
  const handshake = await structured(c);
  const { final } = await list(c, handshake, []);
  c.offered(final !== REP.ERR_UNSUP, "metadata contexts");
  return handshake;
}

function list(c: CheckContext, handshake: Handshake, queries: readonly string[]) {
  return handshake.metaContexts(OPT.LIST_META_CONTEXT, c.target.exportName, queries);
}

function set(c: CheckContext, handshake: Handshake, queries: readonly string[]) {
  return handshake.metaContexts(OPT.SET_META_CONTEXT, c.target.exportName, queries);
}

/** Each legal between the greeting and GO, in whatever order. */
function legalSteps(c: CheckContext, handshake: Handshake): (() => Promise<unknown>)[] {
  const { exportName } = c.target;
  return [
    () => handshake.list(),
    () => handshake.info(OPT.INFO, exportName),
    () => handshake.info(OPT.INFO, exportName, []),
    () => handshake.negotiateStructured(),
    () => list(c, handshake, ["base:"]),
    () => set(c, handshake, [ALLOCATION]),
    () => handshake.ask(0x4321, Buffer.from("unknown")),
    () => handshake.info(OPT.GO, "there is no such export either"),
  ];
}

async function goesThrough(c: CheckContext, random: SeededRandom): Promise<void> {
  const handshake = await c.handshake();
  const steps = legalSteps(c, handshake);
  // A server that takes any name goes into transmission at the last of them.
  if ((await c.target.handshake().then((h) => probesAnyName(h))) === true) steps.pop();
  while (steps.length > 0) {
    const [step] = steps.splice(random.below(steps.length), 1);
    await step?.();
  }
  const client = await c.target.go(handshake);
  await c.isServed(client, "options in another order");
  client.destroy();
}

async function probesAnyName(handshake: Handshake): Promise<boolean> {
  const { final } = await handshake.info(OPT.INFO, "there is no such export either");
  handshake.destroy();
  return final === REP.ACK;
}

export const OPTION_CHECKS: readonly Check[] = [
  {
    name: "option-order",
    about: "takes the options in any order",
    run: async (c) => {
      const random = new SeededRandom(c.settings.seed);
      for (let order = 0; order < ORDERS; order += 1) await goesThrough(c, random);
    },
  },
  {
    name: "structured-reply",
    about: "STRUCTURED_REPLY is acknowledged once or again, and refused with data",
    run: async (c) => {
      const handshake = await structured(c);
      const again = await handshake.ask(OPT.STRUCTURED_REPLY);
      c.must(
        [REP.ACK, REP.ERR_INVALID].some((type) => type === again.final),
        `the second time: ${nameOf(REP, again.final)}`,
      );
      const { final } = await handshake.ask(OPT.STRUCTURED_REPLY, Buffer.from("x"));
      c.should(final === REP.ERR_INVALID, `with data: ${nameOf(REP, final)}, not ERR_INVALID`);
      const client = await c.target.go(handshake);
      await c.isServed(client, "two STRUCTURED_REPLY");
      client.destroy();
    },
  },
  {
    name: "meta-context-list",
    about:
      "LIST_META_CONTEXT knows all, base: and base:allocation, and ignores what it does not know",
    run: async (c) => {
      const handshake = await withContexts(c);
      const names = async (...queries: string[]) => {
        const { final, contexts } = await list(c, handshake, queries);
        c.must(final === REP.ACK, `queries ${queries.join(" ")}: ${nameOf(REP, final)}`);
        return contexts.map(({ name }) => name);
      };
      const all = await names();
      if (all.includes(ALLOCATION)) {
        c.must(
          (await names("base:")).includes(ALLOCATION),
          "the wildcard base: does not find base:allocation",
        );
        c.must(
          (await names(ALLOCATION)).includes(ALLOCATION),
          "base:allocation does not find itself",
        );
        const mixed = await names("x-unknown:thing", ALLOCATION);
        c.must(mixed.includes(ALLOCATION), "a query of an unknown namespace hides the others");
      }
      c.must((await names("x-unknown:thing")).length === 0, "an unknown namespace finds something");
      c.must(
        !(await names("base:nothing")).includes(ALLOCATION),
        "base:nothing finds base:allocation",
      );
    },
  },
  {
    name: "meta-context-set",
    about: "SET_META_CONTEXT selects what is named and nothing else",
    run: async (c) => {
      const handshake = await withContexts(c);
      const names = async (...queries: string[]) => {
        const { final, contexts } = await set(c, handshake, queries);
        c.must(final === REP.ACK, `queries ${queries.join(" ")}: ${nameOf(REP, final)}`);
        return contexts.map(({ name }) => name);
      };
      c.must((await names()).length === 0, "no query selects a context");
      c.must((await names("base:")).length === 0, "base: selects a context");
      c.must(
        (await names("base:nothing", "x-unknown:thing")).length === 0,
        "unknown leaves select a context",
      );
      const offered = c.target.offers.contexts;
      const chosen = await names(...offered);
      c.must(
        offered.every((name) => chosen.includes(name)),
        `of ${offered.join(", ")} only ${chosen.join(", ")} is selected`,
      );
      const twice = await names(...offered, ...offered);
      c.must(
        new Set(twice).size === twice.length,
        "a context that is named twice is selected twice",
      );
    },
  },
  {
    name: "meta-context-replaced",
    about: "each SET_META_CONTEXT replaces the set before it, one that fails too",
    run: async (c) => {
      const replacing: [string, (handshake: Handshake) => Promise<unknown>][] = [
        ["an empty set", (h) => set(c, h, [])],
        ["a set that failed", (h) => h.ask(OPT.SET_META_CONTEXT, malformedQuery(c))],
      ];
      for (const [what, replace] of replacing) {
        const handshake = await withContexts(c);
        c.offered((await set(c, handshake, [ALLOCATION])).contexts.length === 1, ALLOCATION);
        await replace(handshake);
        const client = await c.target.go(handshake);
        const status = client.blockStatus(0, c.target.blockBytes);
        const error = await status.then((reply) => reply.error).catch((thrown: unknown) => thrown);
        if (error instanceof Error && !isLost(error))
          c.must(false, `after ${what} contexts are still answered`);
        if (typeof error === "number")
          c.must(error !== 0, `after ${what} BLOCK_STATUS still succeeds`);
        client.destroy();
      }
    },
  },
  {
    name: "meta-context-without-structured",
    about: "refuses metadata contexts before structured replies",
    run: async (c) => {
      await withContexts(c);
      const handshake = await c.handshake();
      const { final } = await set(c, handshake, [ALLOCATION]);
      const isRefused = final === REP.ERR_INVALID || final === REP.ERR_EXT_HEADER_REQD;
      c.should(isRefused, `SET_META_CONTEXT before structured replies: ${nameOf(REP, final)}`);
      await c.isAnswered(handshake, "SET_META_CONTEXT before structured replies");
    },
  },
  {
    name: "meta-context-malformed",
    about: "refuses queries whose lengths do not fit with ERR_INVALID, and goes on",
    run: async (c) => {
      await withContexts(c);
      const name = counted(c.target.exportName);
      const malformed = {
        "a query longer than the option": malformedQuery(c),
        "a query of 4 GiB": Buffer.concat([name, u32(1), u32(0xffffffff), Buffer.from("base:")]),
        "more queries than there are": Buffer.concat([name, u32(3), counted(ALLOCATION)]),
        "a name longer than the option": Buffer.concat([u32(5000), name, u32(0)]),
        "bytes behind the last query": Buffer.concat([
          metaContextData(c.target.exportName, []),
          u32(1),
        ]),
        "no count": name,
      };
      for (const [what, data] of Object.entries(malformed)) {
        for (const option of [OPT.LIST_META_CONTEXT, OPT.SET_META_CONTEXT] as const) {
          await isRefused(c, option, what, data);
        }
      }
      await c.isAlive("malformed queries");
    },
  },
  {
    name: "meta-context-other-export",
    about: "contexts count for the export that they were chosen for",
    run: async (c) => {
      const handshake = await withContexts(c);
      const other = `${c.target.exportName}, another one`;
      const { final } = await handshake.metaContexts(OPT.SET_META_CONTEXT, other, [ALLOCATION]);
      if (final === REP.ACK) c.note("every export name is accepted");
      handshake.contexts = [];
      const client = await c.target.go(handshake);
      const reply = await client
        .blockStatus(0, c.target.blockBytes)
        .catch((thrown: unknown) => thrown);
      if (reply instanceof ConnectionEnded)
        c.note("BLOCK_STATUS without contexts ends the connection");
      else if (reply instanceof Error) c.must(false, "contexts of another export are answered");
      else c.refuses(reply as never, ERR.EINVAL, "BLOCK_STATUS with contexts of another export");
    },
  },
];

/** A hard disconnect is allowed too: the client broke a MUST. */
async function isRefused(
  c: CheckContext,
  option: typeof OPT.LIST_META_CONTEXT | typeof OPT.SET_META_CONTEXT,
  what: string,
  data: Buffer,
): Promise<void> {
  const handshake = await structured(c);
  const answer = await handshake.ask(option, data).catch((thrown: unknown) => {
    if (isLost(thrown)) return null;
    throw thrown;
  });
  c.should(answer !== null, `${what} ends the connection`);
  if (answer === null) return;
  const said = `${nameOf(OPT, option)} with ${what}: ${nameOf(REP, answer.final)}, not ERR_INVALID`;
  const isInvalid = answer.final === REP.ERR_INVALID;
  const isTail = what.startsWith("bytes behind");
  if (isTail) c.should(isInvalid, said);
  else c.must(isInvalid, said);
  if (!isTail) await c.isAnswered(handshake, what);
  handshake.destroy();
}

function malformedQuery(c: CheckContext): Buffer {
  return Buffer.concat([counted(c.target.exportName), u32(1), u32(100), Buffer.from("base:")]);
}
