import type { SeededRandom } from "../../../support/seeded-random.js";
import { Violation } from "../../client/failures.js";
import type { Reply, Transmission } from "../../client/transmission.js";
import { CMD_FLAG, ERR, FLAG, nameOf, STATE } from "../../client/wire.js";
import type { Check, CheckContext } from "../check.js";
import { type ByteStore, type Range, runRandomLoad } from "../random-load.js";
import type { Style } from "../target.js";

const AREA_BYTES = 1 << 20;
const ALLOCATION = "base:allocation";

function succeeded(reply: Reply, what: string): Reply {
  if (reply.error !== 0) throw new Violation(`${what}: ${nameOf(ERR, reply.error)}`);
  return reply;
}

/** An export as a store of bytes, its requests spread over several connections. */
function storeOver(c: CheckContext, clients: readonly Transmission[]): ByteStore {
  const { target } = c;
  let turn = 0;
  const client = (): Transmission => {
    turn += 1;
    return clients[turn % clients.length] as Transmission;
  };
  const fua = (): number => (turn % 7 === 0 && target.has(FLAG.SEND_FUA) ? CMD_FLAG.FUA : 0);
  return {
    blockBytes: target.blockBytes,
    read: async (at, length) => succeeded(await client().read(at, length), "READ").data,
    write: async (at, data) => void succeeded(await client().write(at, data, fua()), "WRITE"),
    zero: target.has(FLAG.SEND_WRITE_ZEROES)
      ? (at, length, random) => zeroed(c, client(), { at, length }, random)
      : null,
    trim: target.has(FLAG.SEND_TRIM)
      ? async (at, length) => succeeded(await client().trim(at, length, fua()), "TRIM").error === 0
      : null,
    flush: target.has(FLAG.SEND_FLUSH)
      ? async () => void succeeded(await client().flush(), "FLUSH")
      : null,
    zeroes:
      (clients[0]?.contexts.length ?? 0) > 0
        ? (at, length) => zeroRanges(client(), at, length)
        : null,
  };
}

async function zeroed(
  c: CheckContext,
  client: Transmission,
  { at, length }: Range,
  random: SeededRandom,
) {
  const isFast = c.target.has(FLAG.SEND_FAST_ZERO) && random.below(4) === 0;
  const flags = (random.below(2) === 0 ? CMD_FLAG.NO_HOLE : 0) | (isFast ? CMD_FLAG.FAST_ZERO : 0);
  const reply = await client.writeZeroes(at, length, flags);
  if (isFast && reply.error === ERR.ENOTSUP) return false;
  succeeded(reply, "WRITE_ZEROES");
  return true;
}

async function zeroRanges(client: Transmission, at: number, length: number): Promise<Range[]> {
  const reply = succeeded(await client.blockStatus(at, length), "BLOCK_STATUS");
  const ranges: Range[] = [];
  let from = at;
  for (const extent of [...reply.statuses.values()][0] ?? []) {
    const lengthBytes = Math.min(Number(extent.length), at + length - from);
    const isZero = (extent.flags & BigInt(STATE.ZERO)) !== 0n;
    if (isZero && lengthBytes > 0) ranges.push({ at: from, length: lengthBytes });
    from += lengthBytes;
  }
  return ranges;
}

async function integrity(c: CheckContext, style: Style, connections: number): Promise<void> {
  c.writable(AREA_BYTES);
  const hasStatus = style !== "simple" && c.target.offers.contexts.includes(ALLOCATION);
  const contexts = hasStatus ? [ALLOCATION] : [];
  const opened = Array.from({ length: connections }, () => c.transmission(style, contexts));
  const store = storeOver(c, await Promise.all(opened));
  const settings = { ...c.settings, areaBytes: AREA_BYTES, inFlight: 16 };
  const wrong = await runRandomLoad(store, settings);
  c.must(wrong === null, wrong ?? "");
}

function integrityCheck(style: Style): Check {
  return {
    name: `data-integrity-${style}`,
    about: `random requests of odd sizes in ${style} style leave what a naive model holds`,
    run: (c) => integrity(c, style, 1),
  };
}

export const DATA_INTEGRITY_CHECKS: readonly Check[] = [
  integrityCheck("simple"),
  integrityCheck("structured"),
  integrityCheck("extended"),
  {
    name: "data-integrity-multi-conn",
    about: "random requests over four connections leave what a naive model holds",
    run: async (c) => {
      c.offered(c.target.has(FLAG.CAN_MULTI_CONN), "CAN_MULTI_CONN");
      await integrity(c, c.target.richestStyle, 4);
    },
  },
];
