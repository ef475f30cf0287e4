/** Rules around STARTTLS; they speak to the server before it, whatever the URI says. */
import { isLost } from "../../client/transmission.js";
import { CLIENT_FLAG, nameOf, OPT, REP, u32 } from "../../client/wire.js";
import type { Handshake } from "../../client/handshake.js";
import { metaContextData, optionHeader } from "../../client/handshake.js";
import { Transmission } from "../../client/transmission.js";
import type { Check, CheckContext } from "../check.js";

const ALLOCATION = "base:allocation";

async function starttls(c: CheckContext, handshake: Handshake): Promise<void> {
  const { final } = await handshake.ask(OPT.STARTTLS);
  c.must(final === REP.ACK, `STARTTLS: ${nameOf(REP, final)}`);
  await handshake.secure(c.target.tlsOptions);
}

async function secured(c: CheckContext): Promise<Handshake> {
  c.offered(c.target.offers.tls !== "none", "TLS");
  const handshake = await c.plainHandshake();
  await starttls(c, handshake);
  return handshake;
}

export const TLS_CHECKS: readonly Check[] = [
  {
    name: "tls-not-offered",
    about:
      "without TLS, STARTTLS is answered with ERR_UNSUP or ERR_POLICY, and the connection stays",
    run: async (c) => {
      c.offered(c.target.offers.tls === "none", "a server without TLS");
      const handshake = await c.plainHandshake();
      const { final } = await handshake.ask(OPT.STARTTLS);
      const allowed: number[] = [REP.ERR_UNSUP, REP.ERR_POLICY, REP.ERR_INVALID, REP.ERR_PLATFORM];
      c.must(allowed.includes(final), `STARTTLS: ${nameOf(REP, final)}`);
      await c.isAnswered(handshake, "STARTTLS");
    },
  },
  {
    name: "tls-starttls",
    about: "STARTTLS leads to a TLS 1.2 or 1.3 session that serves the export",
    run: async (c) => {
      const handshake = await secured(c);
      await c.isAnswered(handshake, "STARTTLS");
      const client = await c.target.go(handshake);
      await c.isServed(client, "STARTTLS");
      client.destroy();
    },
  },
  {
    name: "tls-twice",
    about: "refuses a second STARTTLS with ERR_INVALID",
    run: async (c) => {
      const handshake = await secured(c);
      const { final } = await handshake.ask(OPT.STARTTLS);
      c.must(
        final === REP.ERR_INVALID,
        `a second STARTTLS: ${nameOf(REP, final)}, not ERR_INVALID`,
      );
      await c.isAnswered(handshake, "a second STARTTLS");
    },
  },
  {
    name: "tls-required",
    about: "a server that requires TLS says nothing but ERR_TLS_REQD before it",
    run: async (c) => {
      c.offered(c.target.offers.tls === "required", "a server that requires TLS");
      const handshake = await c.plainHandshake();
      const { exportName } = c.target;
      const meta = metaContextData(exportName, [ALLOCATION]);
      const asked: [number, Buffer][] = [
        [OPT.LIST, Buffer.alloc(0)],
        [OPT.STRUCTURED_REPLY, Buffer.alloc(0)],
        [OPT.EXTENDED_HEADERS, Buffer.alloc(0)],
        [OPT.LIST_META_CONTEXT, meta],
        [OPT.SET_META_CONTEXT, meta],
        [0x1234, Buffer.from("unknown")],
      ];
      for (const [option, data] of asked) {
        const { final } = await handshake.ask(option, data);
        c.must(
          final === REP.ERR_TLS_REQD,
          `${nameOf(OPT, option)} before TLS: ${nameOf(REP, final)}`,
        );
      }
      for (const option of [OPT.INFO, OPT.GO] as const) {
        const { final, info } = await handshake.info(option, exportName);
        c.must(
          final === REP.ERR_TLS_REQD && info === null,
          `${nameOf(OPT, option)} before TLS: ${nameOf(REP, final)}`,
        );
      }
      handshake.sendOption(OPT.EXPORT_NAME, Buffer.from(exportName));
      const isDropped = (await handshake.stream.ends(2000)) && handshake.stream.bufferedBytes === 0;
      c.must(isDropped, "EXPORT_NAME before TLS does not end the connection");
      const aborting = await c.plainHandshake();
      c.must(
        (await aborting.ask(OPT.ABORT)).final === REP.ACK,
        "ABORT before TLS is not acknowledged",
      );
      const secure = await secured(c);
      const { final } = await secure.list();
      c.must(final !== REP.ERR_TLS_REQD, "ERR_TLS_REQD within TLS");
    },
  },
  {
    name: "tls-starttls-with-data",
    about: "does not take a STARTTLS that carries data",
    run: async (c) => {
      c.offered(c.target.offers.tls !== "none", "TLS");
      const handshake = await c.plainHandshake();
      const { final } = await handshake.ask(OPT.STARTTLS, Buffer.from("x"));
      c.should(
        final === REP.ERR_INVALID,
        `STARTTLS with data: ${nameOf(REP, final)}, not ERR_INVALID`,
      );
    },
  },
  {
    name: "tls-state-dropped",
    about: "nothing that was agreed before STARTTLS counts after it",
    run: async (c) => {
      c.offered(c.target.offers.tls === "optional", "options before TLS");
      const handshake = await c.plainHandshake();
      c.offered(await handshake.negotiateStructured(), "structured replies");
      await handshake.metaContexts(OPT.SET_META_CONTEXT, c.target.exportName, [ALLOCATION]);
      await starttls(c, handshake);
      // The client now expects simple replies; chunks would be a violation.
      const client = await c.target.go(handshake);
      c.succeeds(await client.read(0, c.target.blockBytes), "a read");
      const asked = client.blockStatus(0, c.target.blockBytes);
      const error = await asked.then((reply) => reply.error).catch((thrown: unknown) => thrown);
      const isRefused = isLost(error) || (typeof error === "number" && error !== 0);
      c.must(isRefused, "a context chosen before STARTTLS is answered after it");
      client.destroy();
    },
  },
  {
    name: "tls-injected",
    about: "bytes sent in plain behind STARTTLS never count as said within TLS",
    run: async (c) => {
      c.offered(c.target.offers.tls !== "none", "TLS");
      const handshake = await c.plainHandshake();
      handshake.stream.write(
        optionHeader(OPT.STARTTLS, 0),
        optionHeader(OPT.STRUCTURED_REPLY, 0),
        optionHeader(OPT.LIST, 0),
      );
      const answer = await handshake.answer(OPT.STARTTLS).catch((thrown: unknown) => {
        if (isLost(thrown)) return null;
        throw thrown;
      });
      // To end the connection is as good: no client may send options without awaiting replies.
      if (answer === null) return;
      c.must(answer.final === REP.ACK, `STARTTLS: ${nameOf(REP, answer.final)}`);
      const secure = handshake.secure(c.target.tlsOptions).then(() => true);
      if (!(await secure.catch(() => false))) return;
      const isAnswered = await handshake.stream.stirs(500);
      c.must(!isAnswered, "an option that was sent before TLS is answered within it");
    },
  },
  {
    name: "tls-plain-after-ack",
    about: "ends a connection that goes on in plain after STARTTLS",
    run: async (c) => {
      c.offered(c.target.offers.tls !== "none", "TLS");
      const handshake = await c.plainHandshake();
      c.must((await handshake.ask(OPT.STARTTLS)).final === REP.ACK, "STARTTLS is refused");
      handshake.stream.write(u32(CLIENT_FLAG.FIXED_NEWSTYLE), optionHeader(OPT.LIST, 0));
      c.must(await handshake.stream.ends(3000), "a client that goes on in plain is kept");
      await c.isAlive("a client that went on in plain");
    },
  },
  {
    name: "tls-old-versions",
    about: "refuses TLS 1.1 and older",
    run: async (c) => {
      c.offered(c.target.offers.tls !== "none", "TLS");
      const handshake = await c.plainHandshake();
      c.must((await handshake.ask(OPT.STARTTLS)).final === REP.ACK, "STARTTLS is refused");
      const old = {
        minVersion: "TLSv1",
        maxVersion: "TLSv1.1",
        ciphers: "DEFAULT:@SECLEVEL=0",
      } as const;
      const isTaken = await handshake
        .secure({ ...c.target.tlsOptions, ...old })
        .then(() => true)
        .catch(() => false);
      c.should(!isTaken, "a TLS 1.1 session is accepted");
      await c.isAlive("a client of TLS 1.1");
    },
  },
  {
    name: "tls-pipelined",
    about: "large requests in flight come through TLS unharmed",
    run: async (c) => {
      const handshake = await secured(c);
      const client = await c.target.go(handshake);
      c.must(client instanceof Transmission, "GO");
      const length = Math.min(1 << 20, Number(c.target.sizeBytes));
      const reads = Array.from({ length: 16 }, () => client.read(0, length));
      const [first, ...others] = await Promise.all(reads);
      const isSame = others.every(({ data }) => first !== undefined && data.equals(first.data));
      c.must(isSame, "the same bytes are read differently");
      client.destroy();
    },
  },
];
