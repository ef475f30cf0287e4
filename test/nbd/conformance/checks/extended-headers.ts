import { isLost, type Transmission } from "../../client/transmission.js";
import { CMD, CMD_FLAG, ERR, FLAG, nameOf, OPT, REP } from "../../client/wire.js";
import type { Check, CheckContext } from "../check.js";
import { pattern } from "../pattern.js";

const KIB = 1024;
const GIB4 = 1n << 32n;

function extended(c: CheckContext, contexts: readonly string[] = []): Promise<Transmission> {
  c.offered(c.target.offers.styles.includes("extended"), "extended headers");
  return c.transmission("extended", contexts);
}

/** A BLOCK_STATUS with a payload, for the named contexts. */
async function filtered(client: Transmission, contextIds: readonly number[], lengthBytes: number) {
  const filter = { contextIds, effectBytes: lengthBytes };
  return client.request({ command: CMD.BLOCK_STATUS, filter });
}

async function acceptedFilters(c: CheckContext, client: Transmission): Promise<void> {
  const lengthBytes = Math.min(65536, Number(client.info.sizeBytes));
  const ids = client.contexts.map(({ id }) => id);
  for (const id of ids) {
    const reply = await filtered(client, [id], lengthBytes);
    c.succeeds(reply, "BLOCK_STATUS with a filter");
    c.must(
      reply.error !== 0 || reply.statuses.size === 1,
      "a filter for one context is answered with more",
    );
  }
  c.succeeds(await filtered(client, [...ids].reverse(), lengthBytes), "a filter of all contexts");
}

async function refusedFilters(c: CheckContext, client: Transmission): Promise<void> {
  const lengthBytes = c.target.blockBytes;
  const ids = client.contexts.map(({ id }) => id);
  const unknown = Math.max(...ids) + 1000;
  const [first = 0] = ids;
  c.must(
    (await filtered(client, [unknown], lengthBytes)).error === ERR.EINVAL,
    "an unknown context is not refused with EINVAL",
  );
  c.must(
    (await filtered(client, [first, first], lengthBytes)).error === ERR.EINVAL,
    "a duplicate context is not refused with EINVAL",
  );
  for (const payload of [Buffer.alloc(4), Buffer.alloc(10), Buffer.alloc(9)]) {
    const { error } = await client.request({ command: CMD.BLOCK_STATUS, payload });
    c.must(error !== 0, `a filter of ${payload.length} bytes succeeds`);
  }
}

export const EXTENDED_CHECKS: readonly Check[] = [
  {
    name: "opt-extended-headers",
    about: "EXTENDED_HEADERS is acknowledged without data; STRUCTURED_REPLY does not undo it",
    run: async (c) => {
      const handshake = await c.handshake();
      const { final } = await handshake.ask(OPT.EXTENDED_HEADERS, Buffer.from("x"));
      c.offered(final !== REP.ERR_UNSUP, "extended headers");
      c.should(final === REP.ERR_INVALID, `with data: ${nameOf(REP, final)}, not ERR_INVALID`);
      c.must(await handshake.negotiateExtended(), "EXTENDED_HEADERS is refused");
      const { final: back } = await handshake.ask(OPT.STRUCTURED_REPLY);
      c.should(back !== REP.ACK, "STRUCTURED_REPLY after EXTENDED_HEADERS is acknowledged");
      const client = await c.target.go(handshake);
      await c.isServed(client, "EXTENDED_HEADERS");
      client.destroy();
      const both = await c.handshake();
      await both.negotiateStructured();
      c.should(
        await both.negotiateExtended(),
        "EXTENDED_HEADERS after STRUCTURED_REPLY is refused",
      );
    },
  },
  {
    name: "extended-export-name",
    about: "does not go into transmission by EXPORT_NAME after EXTENDED_HEADERS",
    run: async (c) => {
      c.offered(c.target.offers.styles.includes("extended"), "extended headers");
      const handshake = await c.handshake();
      await handshake.negotiateExtended();
      handshake.sendOption(OPT.EXPORT_NAME, Buffer.from(c.target.exportName));
      const isDropped = (await handshake.stream.ends(1500)) && handshake.stream.bufferedBytes === 0;
      c.should(isDropped, "EXPORT_NAME after EXTENDED_HEADERS is answered");
    },
  },
  {
    name: "extended-read-write",
    about: "extended replies carry the request's offset; WRITE needs PAYLOAD_LEN",
    run: async (c) => {
      const client = await extended(c);
      c.writable(1 << 20);
      const data = pattern(64 * KIB, c.settings.seed);
      c.succeeds(await client.write(128 * KIB, data), "WRITE");
      c.must(
        (await client.read(128 * KIB, data.length)).data.equals(data),
        "other bytes are read than were written",
      );
      if (c.target.has(FLAG.SEND_FLUSH)) c.succeeds(await client.flush(), "FLUSH");
      const bare = { command: CMD.WRITE, offset: 0, length: c.target.blockBytes };
      const { error } = await client.request(bare).catch((thrown: unknown) => {
        if (isLost(thrown)) return { error: -1 };
        throw thrown;
      });
      if (error === -1) c.note("WRITE without PAYLOAD_LEN ends the connection");
      else c.must(error !== 0, "WRITE without PAYLOAD_LEN succeeds");
    },
  },
  {
    name: "extended-unexpected-payload",
    about: "consumes a payload where none belongs, answers EINVAL, and goes on",
    run: async (c) => {
      const client = await extended(c);
      for (const command of [CMD.READ, CMD.FLUSH, CMD.TRIM, CMD.CACHE, CMD.WRITE_ZEROES, 0x77]) {
        const { error } = await client.request({ command, payload: Buffer.alloc(4096, 0x25) });
        c.should(
          error === ERR.EINVAL,
          `${nameOf(CMD, command)} with a payload: ${nameOf(ERR, error)}, not EINVAL`,
        );
      }
      await c.isServed(client, "payloads that do not belong");
    },
  },
  {
    name: "extended-oversize-payload",
    about: "ends the connection rather than take a payload over its maximum",
    run: async (c) => {
      const client = await extended(c);
      c.writable(1);
      const header = client.encode(
        { command: CMD.WRITE, flags: CMD_FLAG.PAYLOAD_LEN, length: 1n << 62n },
        1n,
      );
      client.stream.write(...header);
      c.should(
        await client.stream.ends(2000),
        "a payload of 2^62 bytes does not end the connection",
      );
      await c.isAlive("a payload of 2^62 bytes");
    },
  },
  {
    name: "extended-lengths",
    about: "lengths over 4 GiB work where the export has room, and are refused where it has not",
    run: async (c) => {
      const hasStatus = c.target.offers.contexts.includes("base:allocation");
      const client = await extended(c, hasStatus ? ["base:allocation"] : []);
      const { sizeBytes } = c.target;
      const length =
        sizeBytes > GIB4
          ? sizeBytes - (sizeBytes % BigInt(c.target.blockBytes))
          : GIB4 + (1n << 20n);
      const commands: [number, number][] = [[CMD.CACHE, FLAG.SEND_CACHE]];
      if (!c.target.isReadOnly)
        commands.push([CMD.WRITE_ZEROES, FLAG.SEND_WRITE_ZEROES], [CMD.TRIM, FLAG.SEND_TRIM]);
      for (const [command, flag] of commands) {
        if (!c.target.has(flag)) continue;
        const reply = await client.request({ command, length });
        const said = `${nameOf(CMD, command)} of ${length} bytes`;
        if (length > sizeBytes) c.must(reply.error !== 0, `${said}, past the end, succeeds`);
        else c.should(reply.error === 0, `${said}: ${nameOf(ERR, reply.error)}`);
      }
      const past = await client.read(0, GIB4 + sizeBytes);
      c.must(
        past.error !== 0,
        "a READ of 4 GiB more than there is succeeds: the length is cut to 32 bits",
      );
      if (!hasStatus) return;
      const status = await client.blockStatus(0, length);
      if (length > sizeBytes) c.refuses(status, ERR.EINVAL, "BLOCK_STATUS past the end");
      else c.succeeds(status, `BLOCK_STATUS of ${length} bytes`);
    },
  },
  {
    name: "block-status-payload",
    about: "a BLOCK_STATUS filter is answered for the contexts it names; a wrong one with EINVAL",
    run: async (c) => {
      const { contexts } = c.target.offers;
      c.offered(contexts.length > 0, "metadata contexts");
      const client = await extended(c, contexts);
      c.offered((client.info.flags & FLAG.BLOCK_STATUS_PAYLOAD) !== 0, "BLOCK_STATUS_PAYLOAD");
      await acceptedFilters(c, client);
      await refusedFilters(c, client);
      await c.isServed(client, "BLOCK_STATUS filters");
    },
  },
  {
    name: "block-status-payload-unadvertised",
    about: "consumes a BLOCK_STATUS payload that it did not offer to take, and answers EINVAL",
    run: async (c) => {
      const { contexts } = c.target.offers;
      c.offered(contexts.length > 0, "metadata contexts");
      const client = await extended(c, contexts);
      c.offered(
        (client.info.flags & FLAG.BLOCK_STATUS_PAYLOAD) === 0,
        "a server without BLOCK_STATUS_PAYLOAD",
      );
      const [id = 0] = client.contexts.map((context) => context.id);
      const { error } = await filtered(client, [id], c.target.blockBytes);
      c.must(
        error === ERR.EINVAL,
        `BLOCK_STATUS with a payload: ${nameOf(ERR, error)}, not EINVAL`,
      );
      await c.isServed(client, "a BLOCK_STATUS payload");
    },
  },
];
