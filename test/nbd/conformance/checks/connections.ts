import { setTimeout as sleep } from "node:timers/promises";
import type { Transmission } from "../../client/transmission.js";
import { CMD, CMD_FLAG, FLAG } from "../../client/wire.js";
import type { Check, CheckContext } from "../check.js";
import { pattern } from "../pattern.js";

const PIECE_BYTES = 65536;
const IN_FLIGHT = 64;
const CLIENTS = 4;

/** Each writes a piece; whoever reads after the flush must see it. */
async function isSeenByOthers(c: CheckContext, clients: readonly Transmission[], round: number) {
  const useFua = round % 2 === 1 && c.target.has(FLAG.SEND_FUA);
  for (const [index, writer] of clients.entries()) {
    const data = pattern(PIECE_BYTES, c.settings.seed + round * CLIENTS + index);
    const at = index * PIECE_BYTES;
    c.succeeds(await writer.write(at, data, useFua ? CMD_FLAG.FUA : 0), "WRITE");
    const flusher = clients[(index + 1) % clients.length];
    if (!useFua && flusher !== undefined) c.succeeds(await flusher.flush(), "FLUSH");
    for (const reader of clients) {
      const read = await reader.read(at, PIECE_BYTES);
      c.must(read.data.equals(data), "a write is not seen on another connection after a flush");
    }
  }
}

export const CONNECTION_CHECKS: readonly Check[] = [
  {
    name: "requests-in-flight",
    about: "answers many requests in flight, each once and with its own data",
    run: async (c) => {
      c.writable(IN_FLIGHT * PIECE_BYTES);
      for (const style of c.target.offers.styles) {
        const client = await c.transmission(style);
        const pieces = Array.from({ length: IN_FLIGHT }, (_, index) => pattern(PIECE_BYTES, index));
        const writes = pieces.map((piece, index) => client.write(index * PIECE_BYTES, piece));
        for (const reply of await Promise.all(writes)) c.succeeds(reply, "WRITE");
        const reads = pieces.map((_, index) => client.read(index * PIECE_BYTES, PIECE_BYTES));
        const replies = await Promise.all(reads);
        const isSame = replies.every(({ data }, index) => pieces[index]?.equals(data) === true);
        c.must(isSame, `${style}: a read in flight got another's data`);
        client.destroy();
      }
    },
  },
  {
    name: "multi-conn",
    about: "what one connection writes and flushes is seen by the others",
    run: async (c) => {
      c.offered(c.target.has(FLAG.CAN_MULTI_CONN), "CAN_MULTI_CONN");
      c.offered(c.target.has(FLAG.SEND_FLUSH), "FLUSH");
      c.writable(CLIENTS * PIECE_BYTES);
      const opened = Array.from({ length: CLIENTS }, () => c.transmission());
      const clients = await Promise.all(opened);
      for (const round of [0, 1, 2, 3]) await isSeenByOthers(c, clients, round);
    },
  },
  {
    name: "disconnect",
    about: "DISC: what is in flight is answered first, then the connection closes",
    run: async (c) => {
      const client = await c.transmission();
      const length = Math.min(PIECE_BYTES, Number(c.target.sizeBytes));
      const reads = Array.from({ length: 16 }, () => client.read(0, length));
      const settled = Promise.allSettled(reads);
      client.disconnect();
      const unanswered = (await settled).filter(({ status }) => status === "rejected").length;
      c.should(unanswered === 0, `${unanswered} of 16 requests before DISC are not answered`);
      c.must(await client.stream.ends(3000), "the connection stays open after DISC");
    },
  },
  {
    name: "errors-multiple-disconnects",
    about: "outlives a client that says goodbye twice",
    run: async (c) => {
      const client = await c.transmission();
      client.disconnect();
      client.disconnect();
      client.stream.write(...client.encode({ command: CMD.READ, length: 512 }, 7n));
      c.must(await client.stream.ends(3000), "the connection stays open after two DISC");
      c.must(client.stream.bufferedBytes === 0, "a request after DISC is answered");
      await c.isAlive("two DISC");
    },
  },
  {
    name: "client-gone",
    about: "outlives clients that leave with requests in flight",
    run: async (c) => {
      for (let round = 0; round < 8; round += 1) {
        const client = await c.transmission();
        const length = Math.min(PIECE_BYTES, Number(c.target.sizeBytes));
        const reads = Array.from({ length: 32 }, () => client.read(0, length));
        const settled = Promise.allSettled(reads);
        if (round % 2 === 1) await sleep(1);
        client.destroy();
        await settled;
      }
      await c.isAlive("clients that left");
    },
  },
  {
    name: "request-in-pieces",
    about: "takes requests whatever the pieces they arrive in",
    run: async (c) => {
      c.writable(1 << 16);
      const client = await c.transmission();
      const data = pattern(512 * Math.ceil(c.target.blockBytes / 512), 3);
      const write = { command: CMD.WRITE, payload: data };
      const bytes = Buffer.concat(client.encode(write, 1n));
      const reply = client.expect(write, 1n);
      let sentBytes = 0;
      for (const cut of [1, 5, 27, 28, 29, 32, 33, 100, bytes.length]) {
        client.stream.write(bytes.subarray(sentBytes, cut));
        sentBytes = cut;
        await sleep(2);
      }
      c.succeeds(await reply, "a WRITE in pieces");
      const read = await client.read(0, data.length);
      c.must(read.data.equals(data), "a request that came in pieces was not carried out");
    },
  },
];
