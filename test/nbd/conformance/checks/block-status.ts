import type { Extent, Reply, Transmission } from "../../client/transmission.js";
import { isLost } from "../../client/transmission.js";
import { CMD_FLAG, ERR, FLAG, nameOf, STATE } from "../../client/wire.js";
import type { Check, CheckContext } from "../check.js";
import { pattern } from "../pattern.js";

const ALLOCATION = "base:allocation";
const KIB = 1024;
const WALK_STEPS_MAX = 4096;

async function withAllocation(c: CheckContext): Promise<Transmission> {
  c.offered(c.target.offers.contexts.includes(ALLOCATION), ALLOCATION);
  return c.transmission(undefined, [ALLOCATION]);
}

function extentsOf(reply: Reply): readonly Extent[] {
  return [...reply.statuses.values()][0] ?? [];
}

/** Extents from `offset` on, cut to `length`. */
async function walk(c: CheckContext, client: Transmission, offset: number, length: number) {
  const found: { readonly at: number; readonly length: number; readonly flags: bigint }[] = [];
  let at = offset;
  for (let step = 0; at < offset + length && step < WALK_STEPS_MAX; step += 1) {
    const reply = await client.blockStatus(at, offset + length - at);
    c.succeeds(reply, "BLOCK_STATUS");
    if (reply.error !== 0) return found;
    for (const extent of extentsOf(reply)) {
      found.push({
        at,
        length: Math.min(Number(extent.length), offset + length - at),
        flags: extent.flags,
      });
      at += Number(extent.length);
    }
  }
  return found;
}

export const BLOCK_STATUS_CHECKS: readonly Check[] = [
  {
    name: "block-status",
    about: "every context is answered; base:allocation has only its two flags",
    run: async (c) => {
      const { contexts } = c.target.offers;
      c.offered(contexts.length > 0, "metadata contexts");
      const client = await c.transmission(undefined, contexts);
      const length = c.target.sizeBytes < 1n << 30n ? c.target.sizeBytes : 1n << 30n;
      const reply = await client.blockStatus(0, length);
      c.succeeds(reply, "BLOCK_STATUS");
      const id = client.contexts.find(({ name }) => name === ALLOCATION)?.id;
      const block = BigInt(c.target.blockBytes);
      for (const [context, extents] of reply.statuses) {
        const inner = extents.slice(0, -1);
        c.should(
          inner.every((extent) => extent.length % block === 0n),
          "an extent is not a multiple of the minimum block",
        );
        const unknown = context === id && extents.some(({ flags }) => flags > 3n);
        c.should(!unknown, "base:allocation sets flags that are not defined");
      }
    },
  },
  {
    name: "block-status-zero",
    about: "what is reported to be zero reads as zeroes, and data is not reported so",
    run: async (c) => {
      c.writable(1 << 20);
      const client = await withAllocation(c);
      const data = pattern(256 * KIB, c.settings.seed);
      c.succeeds(await client.write(0, data), "WRITE");
      if (c.target.has(FLAG.SEND_WRITE_ZEROES)) await client.writeZeroes(64 * KIB, 128 * KIB);
      if (c.target.has(FLAG.SEND_TRIM)) await client.trim(192 * KIB, 32 * KIB);
      const read = (await client.read(0, data.length)).data;
      const zero = BigInt(STATE.ZERO);
      for (const { at, length, flags } of await walk(c, client, 0, data.length)) {
        if ((flags & zero) === 0n) continue;
        const isZero = read.subarray(at, at + length).every((byte) => byte === 0);
        c.must(isZero, `${length} bytes at ${at} are reported as zero and hold data`);
      }
    },
  },
  {
    name: "block-status-req-one",
    about: "REQ_ONE gives one extent a context, no longer than asked",
    run: async (c) => {
      const client = await withAllocation(c);
      const length = Math.max(4096, c.target.blockBytes);
      c.offered(c.target.sizeBytes >= BigInt(2 * length), "room");
      for (const at of [0, length]) {
        c.succeeds(
          await client.blockStatus(at, length, CMD_FLAG.REQ_ONE),
          "BLOCK_STATUS with REQ_ONE",
        );
      }
    },
  },
  {
    name: "block-status-odd",
    about: "answers at odd places and for every length up to 2^32 - 1",
    run: async (c) => {
      const client = await withAllocation(c);
      const { sizeBytes, blockBytes } = c.target;
      const block = BigInt(blockBytes);
      const highest = 0xffff_ffffn - (0xffff_ffffn % block);
      const lengths = [block, 3n * block, highest, highest - block, 1n << 31n, (1n << 32n) - block];
      for (const length of lengths) {
        for (const at of [0n, block, sizeBytes - block]) {
          if (at + length > 1n << 33n) continue;
          const reply = await client.blockStatus(at, length);
          if (at + length <= sizeBytes)
            c.succeeds(reply, `BLOCK_STATUS of ${length} bytes at ${at}`);
          else c.refuses(reply, ERR.EINVAL, `BLOCK_STATUS of ${length} bytes past the end`);
        }
      }
      await c.isServed(client, "BLOCK_STATUS");
    },
  },
  {
    name: "block-status-past-end",
    about: "EINVAL for BLOCK_STATUS past the end",
    run: async (c) => {
      const client = await withAllocation(c);
      const { sizeBytes, blockBytes } = c.target;
      for (const at of [
        sizeBytes,
        sizeBytes - BigInt(blockBytes),
        1n << 63n,
        (1n << 64n) - BigInt(blockBytes),
      ]) {
        const reply = await client.blockStatus(at, 2 * blockBytes);
        c.refuses(reply, ERR.EINVAL, `BLOCK_STATUS at ${at}, past the end`);
      }
      const { error } = await client.blockStatus(0, 0);
      c.should(
        error === 0 || error === ERR.EINVAL,
        `BLOCK_STATUS of 0 bytes: ${nameOf(ERR, error)}`,
      );
      await c.isServed(client, "BLOCK_STATUS past the end");
    },
  },
  {
    name: "block-status-without-context",
    about: "EINVAL for BLOCK_STATUS when no context was selected",
    run: async (c) => {
      for (const style of c.target.offers.styles) {
        const client = await c.transmission(style);
        const asked = client.blockStatus(0, c.target.blockBytes);
        const error = await asked.then((reply) => reply.error).catch((thrown: unknown) => thrown);
        if (isLost(error)) c.should(false, "BLOCK_STATUS without contexts ends the connection");
        else
          c.should(
            error === ERR.EINVAL,
            `${style}: BLOCK_STATUS without contexts is not refused with EINVAL`,
          );
        client.destroy();
      }
    },
  },
];
