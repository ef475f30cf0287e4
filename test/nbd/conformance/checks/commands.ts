import type { Reply, Transmission } from "../../client/transmission.js";
import { isLost } from "../../client/transmission.js";
import { CMD, CMD_FLAG, ERR, FLAG, nameOf, STATE } from "../../client/wire.js";
import type { Check, CheckContext } from "../check.js";
import { pattern } from "../pattern.js";

const KIB = 1024;
const AREA_BYTES = 1 << 20;

/** Reads `length` bytes at `offset`, whatever the style. */
async function dataAt(client: Transmission, offset: number, length: number): Promise<Buffer> {
  return (await client.read(offset, length)).data;
}

/** `work` at 64 KiB .. 128 KiB of a filled area; answers what is there then. */
async function around(
  c: CheckContext,
  client: Transmission,
  work: (offset: number, length: number) => Promise<Reply>,
): Promise<{ readonly reply: Reply; readonly middle: Buffer; readonly filled: Buffer }> {
  const filled = pattern(192 * KIB, c.settings.seed);
  c.succeeds(await client.write(0, filled), "WRITE");
  const reply = await work(64 * KIB, 64 * KIB);
  const after = await dataAt(client, 0, 192 * KIB);
  const isKept =
    after.subarray(0, 64 * KIB).equals(filled.subarray(0, 64 * KIB)) &&
    after.subarray(128 * KIB).equals(filled.subarray(128 * KIB));
  c.must(isKept, "bytes beside the range have changed");
  return {
    reply,
    middle: after.subarray(64 * KIB, 128 * KIB),
    filled: filled.subarray(64 * KIB, 128 * KIB),
  };
}

function isZero(data: Buffer): boolean {
  return data.every((byte) => byte === 0);
}

async function zeroesWith(c: CheckContext, flags: number, what: string): Promise<void> {
  const client = await c.transmission();
  const { reply, middle } = await around(c, client, (offset, length) =>
    client.writeZeroes(offset, length, flags),
  );
  c.succeeds(reply, what);
  c.must(reply.error !== ERR.ENOTSUP, `${what}: ENOTSUP without FAST_ZERO`);
  c.must(reply.error !== 0 || isZero(middle), `${what} succeeds, and other than zeroes are read`);
}

export const COMMAND_CHECKS: readonly Check[] = [
  {
    name: "read-write",
    about: "reads back what was written, in every reply style",
    run: async (c) => {
      c.writable(AREA_BYTES);
      for (const [index, style] of c.target.offers.styles.entries()) {
        const client = await c.transmission(style);
        const data = pattern(256 * KIB, c.settings.seed + index);
        c.succeeds(await client.write(64 * KIB, data), "WRITE");
        const read = await client.read(64 * KIB, data.length);
        c.succeeds(read, "READ");
        c.must(read.data.equals(data), `${style}: other bytes are read than were written`);
        client.destroy();
      }
    },
  },
  {
    name: "read-write-largest",
    about: "takes requests of the maximum payload",
    run: async (c) => {
      const lengthBytes = Math.min(c.target.maximumBytes, 1 << 25);
      c.offered(c.target.sizeBytes >= BigInt(lengthBytes), `an export of ${lengthBytes} bytes`);
      const client = await c.transmission();
      const aligned = lengthBytes - (lengthBytes % c.target.blockBytes);
      const read = await client.read(0, aligned);
      c.should(read.error === 0, `READ of ${aligned} bytes: ${nameOf(ERR, read.error)}`);
      if (c.target.isReadOnly) return;
      const data = pattern(aligned, c.settings.seed);
      const written = await client.write(0, data);
      c.should(written.error === 0, `WRITE of ${aligned} bytes: ${nameOf(ERR, written.error)}`);
      if (written.error !== 0) return;
      c.must(
        (await client.read(0, aligned)).data.equals(data),
        "other bytes are read than were written",
      );
    },
  },
  {
    name: "read-write-last-bytes",
    about: "reads and writes up to the very last byte",
    run: async (c) => {
      c.writable(AREA_BYTES);
      const client = await c.transmission();
      const block = c.target.blockBytes;
      const lengthBytes = block * 3;
      const at = (c.target.sizeBytes / BigInt(block)) * BigInt(block) - BigInt(lengthBytes);
      const data = pattern(lengthBytes, c.settings.seed);
      c.succeeds(await client.write(at, data), "WRITE up to the end");
      c.must(
        (await client.read(at, lengthBytes)).data.equals(data),
        "the last bytes are not what was written",
      );
    },
  },
  {
    name: "flush",
    about: "FLUSH succeeds, with FUA too where that is offered",
    run: async (c) => {
      c.offered(c.target.has(FLAG.SEND_FLUSH), "FLUSH");
      const client = await c.transmission();
      c.succeeds(await client.flush(), "FLUSH");
      if (c.target.has(FLAG.SEND_FUA))
        c.succeeds(await client.flush(CMD_FLAG.FUA), "FLUSH with FUA");
    },
  },
  {
    name: "fua",
    about: "FUA is taken on every command",
    run: async (c) => {
      c.offered(c.target.has(FLAG.SEND_FUA), "FUA");
      const client = await c.transmission();
      const length = Math.max(4096, c.target.blockBytes);
      c.offered(c.target.sizeBytes >= BigInt(length), "room");
      const flags = CMD_FLAG.FUA;
      c.succeeds(await client.read(0, length, flags), "READ with FUA");
      if (c.target.has(FLAG.SEND_CACHE)) {
        const { error } = await client.request({ command: CMD.CACHE, length, flags });
        if (error !== 0) c.note(`CACHE with FUA: ${nameOf(ERR, error)}`);
      }
      if (c.target.isReadOnly) return;
      const data = pattern(length, c.settings.seed);
      c.succeeds(await client.write(0, data, flags), "WRITE with FUA");
      c.must((await dataAt(client, 0, length)).equals(data), "WRITE with FUA wrote other bytes");
      if (c.target.has(FLAG.SEND_TRIM))
        c.succeeds(await client.trim(0, length, flags), "TRIM with FUA");
      if (c.target.has(FLAG.SEND_WRITE_ZEROES)) {
        c.succeeds(await client.writeZeroes(0, length, flags), "WRITE_ZEROES with FUA");
      }
    },
  },
  {
    name: "trim",
    about: "TRIM touches nothing outside its range, and what is left reads steadily",
    run: async (c) => {
      c.writable(AREA_BYTES);
      c.offered(c.target.has(FLAG.SEND_TRIM), "TRIM");
      const client = await c.transmission();
      const { reply, middle } = await around(c, client, (offset, length) =>
        client.trim(offset, length),
      );
      c.succeeds(reply, "TRIM");
      const again = await dataAt(client, 64 * KIB, 64 * KIB);
      if (!again.equals(middle)) c.note("what was trimmed reads differently each time");
      const block = c.target.blockBytes;
      c.succeeds(await client.trim(block, 3 * block), "TRIM of odd blocks");
    },
  },
  {
    name: "write-zeroes",
    about: "WRITE_ZEROES reads back as zeroes and touches nothing else",
    run: async (c) => {
      c.writable(AREA_BYTES);
      c.offered(c.target.has(FLAG.SEND_WRITE_ZEROES), "WRITE_ZEROES");
      await zeroesWith(c, 0, "WRITE_ZEROES");
      const client = await c.transmission();
      const block = c.target.blockBytes;
      const [at, length] = [64 * KIB - block, 4096 + 2 * block];
      const data = pattern(192 * KIB, 9);
      await client.write(0, data);
      c.succeeds(await client.writeZeroes(at, length), "WRITE_ZEROES at an odd place");
      data.fill(0, at, at + length);
      c.must(
        (await dataAt(client, 0, data.length)).equals(data),
        "WRITE_ZEROES at an odd place went wrong",
      );
    },
  },
  {
    name: "write-zeroes-no-hole",
    about: "WRITE_ZEROES with NO_HOLE reads back as zeroes and is no hole",
    run: async (c) => {
      c.writable(AREA_BYTES);
      c.offered(c.target.has(FLAG.SEND_WRITE_ZEROES), "WRITE_ZEROES");
      await zeroesWith(c, CMD_FLAG.NO_HOLE, "WRITE_ZEROES with NO_HOLE");
      if (!c.target.offers.contexts.includes("base:allocation")) return;
      const client = await c.transmission("structured", ["base:allocation"]);
      const { statuses } = await client.blockStatus(64 * KIB, 64 * KIB);
      const flags = [...statuses.values()][0]?.[0]?.flags ?? 0n;
      c.should((flags & BigInt(STATE.HOLE)) === 0n, "the range is reported as a hole");
    },
  },
  {
    name: "fast-zero",
    about: "FAST_ZERO succeeds, or fails with ENOTSUP and changes nothing",
    run: async (c) => {
      c.writable(AREA_BYTES);
      c.offered(c.target.has(FLAG.SEND_FAST_ZERO), "FAST_ZERO");
      const client = await c.transmission();
      for (const extra of [0, CMD_FLAG.NO_HOLE]) {
        const { reply, middle, filled } = await around(c, client, (offset, length) =>
          client.writeZeroes(offset, length, CMD_FLAG.FAST_ZERO | extra),
        );
        const isAllowed = reply.error === 0 || reply.error === ERR.ENOTSUP;
        c.must(isAllowed, `FAST_ZERO: ${nameOf(ERR, reply.error)}, neither success nor ENOTSUP`);
        if (reply.error === 0)
          c.must(isZero(middle), "FAST_ZERO succeeds, and other than zeroes are read");
        else c.should(middle.equals(filled), "FAST_ZERO failed and changed data");
      }
    },
  },
  {
    name: "fast-zero-unadvertised",
    about: "refuses FAST_ZERO with EINVAL where it is not advertised",
    run: async (c) => {
      c.writable(AREA_BYTES);
      c.offered(c.target.has(FLAG.SEND_WRITE_ZEROES), "WRITE_ZEROES");
      c.offered(!c.target.has(FLAG.SEND_FAST_ZERO), "a server without FAST_ZERO");
      const client = await c.transmission();
      const { error } = await client.writeZeroes(0, 4096, CMD_FLAG.FAST_ZERO);
      c.should(
        error === ERR.EINVAL,
        `FAST_ZERO, not advertised: ${nameOf(ERR, error)}, not EINVAL`,
      );
    },
  },
  {
    name: "cache",
    about: "CACHE changes nothing, and refuses flags that it does not know",
    run: async (c) => {
      c.offered(c.target.has(FLAG.SEND_CACHE), "CACHE");
      const client = await c.transmission();
      const length = 65536;
      c.offered(c.target.sizeBytes >= BigInt(length), "room");
      const before = await dataAt(client, 0, length);
      const { error } = await client.request({ command: CMD.CACHE, length });
      if (error !== 0) c.note(`CACHE: ${nameOf(ERR, error)}`);
      c.must((await dataAt(client, 0, length)).equals(before), "CACHE changed data");
      const flagged = await client.request({ command: CMD.CACHE, length, flags: 1 << 12 });
      c.must(flagged.error !== 0, "CACHE takes a flag that is not defined");
    },
  },
  {
    name: "structured-read",
    about: "structured reads cover all that was asked for, with data and holes, without overlap",
    run: async (c) => {
      const style = c.target.richestStyle;
      c.offered(style !== "simple", "structured replies");
      c.writable(AREA_BYTES);
      const client = await c.transmission(style);
      const content = pattern(AREA_BYTES, c.settings.seed);
      c.succeeds(await client.write(0, content), "WRITE");
      if (c.target.has(FLAG.SEND_WRITE_ZEROES)) {
        for (const [at, length] of [
          [128 * KIB, 256 * KIB],
          [600 * KIB, 64 * KIB],
        ] as const) {
          c.succeeds(await client.writeZeroes(at, length), "WRITE_ZEROES");
          content.fill(0, at, at + length);
        }
      }
      const block = c.target.blockBytes;
      for (const [at, length] of [
        [0, AREA_BYTES],
        [block, 200 * KIB],
        [384 * KIB - block, 2 * block],
        [100 * KIB, 500 * KIB + block],
      ] as const) {
        const reply = await client.read(at, length);
        c.succeeds(reply, "READ");
        c.must(
          reply.data.equals(content.subarray(at, at + length)),
          "other bytes are read than were written",
        );
      }
    },
  },
  {
    name: "structured-read-df",
    about: "DF gives one content chunk for up to 64 KiB, and more or EOVERFLOW beyond",
    run: async (c) => {
      c.offered(c.target.richestStyle !== "simple" && c.target.has(FLAG.SEND_DF), "DF");
      const client = await c.transmission();
      for (const length of [c.target.blockBytes, 65536]) {
        if (c.target.sizeBytes < BigInt(length)) continue;
        c.succeeds(await client.read(0, length, CMD_FLAG.DF), `READ of ${length} bytes with DF`);
      }
      if (c.target.sizeBytes < BigInt(AREA_BYTES)) return;
      const { error } = await client.read(0, AREA_BYTES, CMD_FLAG.DF);
      c.must(
        error === 0 || error === ERR.EOVERFLOW,
        `READ of 1 MiB with DF: ${nameOf(ERR, error)}`,
      );
    },
  },
  {
    name: "df-without-structured",
    about: "refuses DF without structured replies",
    run: async (c) => {
      const client = await c.transmission("simple");
      const asked = client.read(0, c.target.blockBytes, CMD_FLAG.DF);
      const error = await asked.then((reply) => reply.error).catch((thrown: unknown) => thrown);
      if (isLost(error)) c.note("DF without structured replies ends the connection");
      else
        c.should(error === ERR.EINVAL, "DF without structured replies is not refused with EINVAL");
    },
  },
];
