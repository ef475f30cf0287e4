import { setTimeout as sleep } from "node:timers/promises";
import { optionHeader } from "../../client/handshake.js";
import { CLIENT_FLAG, MAGIC, nameOf, OPT, REP, SERVER_FLAG, u32, u64 } from "../../client/wire.js";
import type { Check } from "../check.js";

const SWALLOW_BYTES = 1 << 20;

export const HANDSHAKE_CHECKS: readonly Check[] = [
  {
    name: "handshake-greeting",
    about: "greets in fixed newstyle, with no flags that are not defined",
    run: async (c) => {
      const { serverFlags } = await c.plainHandshake();
      const known = SERVER_FLAG.FIXED_NEWSTYLE | SERVER_FLAG.NO_ZEROES;
      c.must((serverFlags & SERVER_FLAG.FIXED_NEWSTYLE) !== 0, "FIXED_NEWSTYLE is not set");
      c.must((serverFlags & ~known) === 0, `handshake flags 0x${serverFlags.toString(16)}`);
    },
  },
  {
    name: "handshake-client-flags",
    about: "drops a client that sets a flag it does not know",
    run: async (c) => {
      for (const unknown of [1 << 2, 1 << 16, 0x80000000]) {
        const { stream } = await c.plainHandshake((unknown | CLIENT_FLAG.FIXED_NEWSTYLE) >>> 0);
        stream.write(optionHeader(OPT.LIST, 0));
        const isDropped = await stream.ends(500);
        c.must(isDropped && stream.bufferedBytes === 0, "a client with an unknown flag is served");
      }
      await c.isAlive("unknown client flags");
    },
  },
  {
    name: "handshake-cut",
    about: "outlives clients that leave at any byte of the handshake",
    run: async (c) => {
      const whole = Buffer.concat([
        u32(CLIENT_FLAG.FIXED_NEWSTYLE),
        optionHeader(OPT.LIST, 0),
        optionHeader(OPT.EXPORT_NAME, 2),
        Buffer.from("no"),
      ]);
      for (let sentBytes = 0; sentBytes <= whole.length; sentBytes += 1) {
        const stream = await c.target.stream();
        stream.write(whole.subarray(0, sentBytes));
        if (sentBytes % 2 === 0) stream.endWriting();
        else await sleep(1);
        stream.destroy();
      }
      await c.isAlive("handshakes that were cut");
    },
  },
  {
    name: "option-magic",
    about: "ends a connection whose options have lost their magic",
    run: async (c) => {
      const handshake = await c.plainHandshake();
      handshake.stream.write(u64(MAGIC.OPTION ^ 1n), u32(OPT.LIST), u32(0));
      const isDropped = await handshake.stream.ends(2000);
      c.should(isDropped, "an option with a wrong magic does not end the connection");
      await c.isAlive("a wrong option magic");
    },
  },
  {
    name: "option-unknown",
    about: "answers an unknown option with ERR_UNSUP, takes its data, and goes on",
    run: async (c) => {
      const handshake = await c.handshake();
      for (const option of [4, 0x1234, 0xffffffff]) {
        const { final } = await handshake.ask(option, Buffer.alloc(100, 0x49));
        c.must(final !== REP.ACK, `option ${option} is acknowledged`);
        c.should(final === REP.ERR_UNSUP, `option ${option}: ${nameOf(REP, final)}, not ERR_UNSUP`);
      }
      await c.isAnswered(handshake, "unknown options");
    },
  },
  {
    name: "option-too-long",
    about: "does not swallow an option of 4 GiB",
    run: async (c) => {
      const handshake = await c.handshake();
      handshake.stream.write(optionHeader(OPT.INFO, 0xffffffff), Buffer.alloc(SWALLOW_BYTES));
      if (!(await handshake.stream.stirs(1500))) {
        c.note("an option that announces 4 GiB is read on and on");
      }
      handshake.destroy();
      await c.isAlive("an option of 4 GiB");
    },
  },
  {
    name: "option-abort",
    about: "acknowledges ABORT, with or without data, and closes",
    run: async (c) => {
      for (const data of [Buffer.alloc(0), Buffer.from("bye")]) {
        const handshake = await c.handshake();
        const { final } = await handshake.ask(OPT.ABORT, data);
        const named = nameOf(REP, final);
        if (data.length === 0) c.must(final === REP.ACK, `ABORT is answered with ${named}`);
        else c.should(final === REP.ACK, `ABORT with data is answered with ${named}`);
        if (final !== REP.ACK) continue;
        c.should(await handshake.stream.ends(2000), "the connection stays after ABORT");
      }
      const silent = await c.handshake();
      silent.sendOption(OPT.ABORT);
      silent.destroy();
      await c.isAlive("an ABORT whose answer nobody awaits");
    },
  },
];
