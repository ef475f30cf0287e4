import { isDeepStrictEqual } from "node:util";
import type { BlockSize, ExportInfo, Handshake } from "../../client/handshake.js";
import { infoData } from "../../client/handshake.js";
import { Transmission } from "../../client/transmission.js";
import { CLIENT_FLAG, FLAG, INFO, nameOf, OPT, REP, u16, u32 } from "../../client/wire.js";
import type { Check, CheckContext } from "../check.js";

const UNKNOWN = "there is no such export, surely";

async function infoOf(c: CheckContext, handshake: Handshake, requests?: readonly number[]) {
  const { final, info } = await handshake.info(OPT.INFO, c.target.exportName, requests);
  c.offered(final !== REP.ERR_UNSUP, "INFO");
  c.must(info !== null, `INFO is answered with ${nameOf(REP, final)}`);
  return info;
}

function checkFlags(c: CheckContext, { flags }: ExportInfo, isStructured: boolean): void {
  const has = (flag: number) => (flags & flag) !== 0;
  c.must(has(FLAG.HAS_FLAGS), "HAS_FLAGS is not set");
  c.must(isStructured || !has(FLAG.SEND_DF), "SEND_DF without structured replies");
  c.must(
    has(FLAG.SEND_WRITE_ZEROES) || !has(FLAG.SEND_FAST_ZERO),
    "SEND_FAST_ZERO without SEND_WRITE_ZEROES",
  );
  c.must(!has(FLAG.BLOCK_STATUS_PAYLOAD), "BLOCK_STATUS_PAYLOAD without extended headers");
  const writes = FLAG.SEND_TRIM | FLAG.SEND_WRITE_ZEROES;
  if (has(FLAG.READ_ONLY) && has(writes)) c.note("a read-only export offers writing commands");
}

function checkBlockSize(c: CheckContext, size: BlockSize, sizeBytes: bigint): void {
  const { minimum, preferred, maximum } = size;
  const isPower = (value: number) => value > 0 && Number.isInteger(Math.log2(value));
  c.must(isPower(minimum) && minimum <= 65536, `the minimum block is ${minimum}`);
  c.must(isPower(preferred), `the preferred block is ${preferred}`);
  c.must(
    preferred >= Math.max(minimum, 512),
    `the preferred block is ${preferred}, under the minimum or 512`,
  );
  c.must(maximum >= preferred, `the maximum payload is ${maximum}, under the preferred block`);
  const isSmall = sizeBytes < 1n << 20n;
  c.should(isSmall || maximum >= 1 << 20, `the maximum payload is ${maximum}, under 1 MiB`);
  c.should(
    sizeBytes % BigInt(minimum) === 0n,
    "the export's size is not a multiple of its minimum block",
  );
}

export const EXPORT_CHECKS: readonly Check[] = [
  {
    name: "list-exports",
    about: "LIST names the export, each name once",
    run: async (c) => {
      const handshake = await c.handshake();
      const { final, exports } = await handshake.list();
      c.offered(final === REP.ACK, `LIST (${nameOf(REP, final)})`);
      const names = exports.map(({ name }) => name);
      c.should(
        names.includes(c.target.exportName),
        `the export is not among the ${names.length} listed`,
      );
      c.should(new Set(names).size === names.length, "an export is listed twice");
      await c.isAnswered(handshake, "LIST");
    },
  },
  {
    name: "list-with-data",
    about: "refuses a LIST that carries data with ERR_INVALID, and goes on",
    run: async (c) => {
      const handshake = await c.handshake();
      c.offered((await handshake.list()).final === REP.ACK, "LIST");
      const { final } = await handshake.ask(OPT.LIST, Buffer.from("data"));
      c.should(final === REP.ERR_INVALID, `LIST with data: ${nameOf(REP, final)}, not ERR_INVALID`);
      await c.isAnswered(handshake, "LIST with data");
    },
  },
  {
    name: "info",
    about: "INFO and GO say the same, each thing once, with flags that fit together",
    run: async (c) => {
      const handshake = await c.handshake();
      const first = await infoOf(c, handshake);
      if (first === null) return;
      checkFlags(c, first, false);
      c.should(
        new Set(first.types).size === first.types.length,
        "a piece of information comes twice",
      );
      await infoOf(c, handshake, []);
      await infoOf(c, handshake, [INFO.NAME, 0x7777, 0xffff]);
      await infoOf(c, handshake);
      const { info: last } = await handshake.info(OPT.GO, c.target.exportName);
      const sorted = (info: ExportInfo | null) => ({ ...info, types: info?.types.sort() });
      c.must(
        isDeepStrictEqual(sorted(last), sorted(first)),
        "GO tells other things than the INFO before it",
      );
      if (last !== null) await c.isServed(new Transmission(handshake, last), "GO");
    },
  },
  {
    name: "info-name",
    about: "gives the name and the description that LIST shows",
    run: async (c) => {
      const handshake = await c.handshake();
      const info = await infoOf(c, handshake);
      const listed = (await handshake.list()).exports.find(
        ({ name }) => name === c.target.exportName,
      );
      c.offered(info?.name != null || info?.description != null, "INFO_NAME and INFO_DESCRIPTION");
      if (info?.name != null && info.name !== c.target.exportName)
        c.note(`the canonical name is "${info.name}"`);
      const isSame =
        listed === undefined || (info?.description ?? listed.description) === listed.description;
      c.must(isSame, "INFO_DESCRIPTION is not what LIST shows");
    },
  },
  {
    name: "info-block-size",
    about: "block sizes are powers of two in their order; the maximum is at least 1 MiB",
    run: async (c) => {
      const info = await infoOf(c, await c.handshake(), [INFO.BLOCK_SIZE]);
      c.offered(info?.blockSize != null, "INFO_BLOCK_SIZE");
      if (info?.blockSize != null) checkBlockSize(c, info.blockSize, info.sizeBytes);
    },
  },
  {
    name: "info-unknown-export",
    about: "refuses an export that does not exist with ERR_UNKNOWN, and goes on",
    run: async (c) => {
      const handshake = await c.handshake();
      const { final, info } = await handshake.info(OPT.INFO, UNKNOWN);
      c.offered(final !== REP.ERR_UNSUP, "INFO");
      if (final === REP.ACK) {
        c.note("every export name is accepted");
        return;
      }
      c.should(
        final === REP.ERR_UNKNOWN,
        `an unknown export: ${nameOf(REP, final)}, not ERR_UNKNOWN`,
      );
      c.should(info === null, "information about an export that does not exist");
      const { final: go } = await handshake.info(OPT.GO, UNKNOWN);
      c.must(go !== REP.ACK, "GO accepts an export that INFO does not know");
      await c.isAnswered(handshake, "an unknown export");
    },
  },
  {
    name: "info-malformed",
    about: "refuses an INFO whose lengths do not fit with an error, and goes on",
    run: async (c) => {
      const handshake = await c.handshake();
      await infoOf(c, handshake);
      const name = Buffer.from(c.target.exportName);
      const malformed = {
        "a name longer than the option": Buffer.concat([u32(1000), name, u16(0)]),
        "a name length of 4 GiB": Buffer.concat([u32(0xffffffff), name, u16(0)]),
        "a name that leaves no room for a count": Buffer.concat([
          u32(name.length + 1),
          name,
          u16(0),
        ]),
        "fewer requests than counted": Buffer.concat([
          infoData(name, []).subarray(0, -2),
          u16(3),
          u16(1),
        ]),
        "more requests than counted": Buffer.concat([infoData(name, [1]), u16(3)]),
        "no data at all": Buffer.alloc(0),
      };
      for (const [what, data] of Object.entries(malformed)) {
        const broken = await c.handshake();
        const answer = await broken.ask(OPT.INFO, data).catch(() => null);
        c.should(answer !== null, `${what} ends the connection`);
        if (answer === null) continue;
        const named = nameOf(REP, answer.final);
        c.must(answer.final !== REP.ACK, `${what} is accepted`);
        c.should(answer.final === REP.ERR_INVALID, `${what}: ${named}, not ERR_INVALID`);
        await c.isAnswered(broken, what);
        broken.destroy();
      }
      await c.isAlive("malformed INFO");
    },
  },
  {
    name: "errors-name-too-long",
    about: "refuses names over 4096 bytes, and answers one of exactly 4096",
    run: async (c) => {
      for (const nameBytes of [256, 4095, 4096, 4097, 8192, 65536]) {
        const handshake = await c.handshake();
        const asked = handshake.info(OPT.INFO, "x".repeat(nameBytes));
        const answer = await asked.catch(() => null);
        const isLegal = nameBytes <= 4096;
        c.must(answer !== null || !isLegal, `a name of ${nameBytes} bytes ends the connection`);
        if (answer?.final === REP.ACK) c.note(`a name of ${nameBytes} bytes is accepted`);
        handshake.destroy();
      }
      await c.isAlive("long names");
    },
  },
  {
    name: "export-name",
    about: "EXPORT_NAME gives what INFO gives, with 124 zero bytes unless NO_ZEROES was agreed",
    run: async (c) => {
      if (c.target.blockBytes > 1)
        c.offered(false, "a minimum block of 1, which EXPORT_NAME implies");
      const told = await infoOf(c, await c.handshake());
      if (told === null) return;
      for (const flags of [CLIENT_FLAG.FIXED_NEWSTYLE, undefined]) {
        const handshake = await c.handshake(flags);
        const info = await handshake.exportName(c.target.exportName);
        c.must(info.sizeBytes === told.sizeBytes, `EXPORT_NAME says ${info.sizeBytes} bytes`);
        c.must(info.flags === told.flags, `EXPORT_NAME says flags 0x${info.flags.toString(16)}`);
        const client = new Transmission(handshake, info);
        await c.isServed(client, "EXPORT_NAME");
        client.destroy();
      }
    },
  },
  {
    name: "export-name-unknown",
    about: "ends the connection when EXPORT_NAME names nothing",
    run: async (c) => {
      const probe = await c.handshake();
      const { final } = await probe.info(OPT.INFO, UNKNOWN);
      c.offered(final !== REP.ACK && final !== REP.ERR_UNSUP, "names that do not exist");
      const handshake = await c.handshake();
      handshake.sendOption(OPT.EXPORT_NAME, Buffer.from(UNKNOWN));
      const isDropped = await handshake.stream.ends(2000);
      c.must(
        isDropped && handshake.stream.bufferedBytes === 0,
        "EXPORT_NAME of an unknown export is answered",
      );
      await c.isAlive("an unknown EXPORT_NAME");
    },
  },
];
