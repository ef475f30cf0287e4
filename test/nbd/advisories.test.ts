/**
 * What has gone wrong in other NBD servers, tried on ours: each test is named
 * after the advisory. The server is a process of its own; a client that was
 * there before and one that comes after must be served whatever happens.
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import t, { type Test } from "tap";
import { NbdServer } from "#lib/index.js";
import { faultDevice, memoryDevice } from "#lib/testing.js";
import { SeededRandom } from "../support/seeded-random.js";
import { scratchDirectory, tidemark } from "../support/program.js";
import { ByteStream } from "./client/byte-stream.js";
import { type Handshake, infoData, metaContextData, optionHeader } from "./client/handshake.js";
import { CMD, ERR, MAGIC, OPT, REP, u16, u32, u64 } from "./client/wire.js";
import { Target } from "./conformance/target.js";
import { tlsTarget } from "./tls-target.js";
import { Victim } from "./victim.js";

const GIB = 1n << 30n;
const LENGTHS = [
  0, 1, 4, 255, 256, 257, 4095, 4096, 4097, 65535, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff,
];
const NAMED = [
  OPT.EXPORT_NAME,
  OPT.INFO,
  OPT.GO,
  OPT.LIST_META_CONTEXT,
  OPT.SET_META_CONTEXT,
] as const;
const directory = await scratchDirectory(t);

function attack(
  name: string,
  work: (t: Test, victim: Victim) => Promise<void>,
  sizeBytes?: number,
): void {
  void t.test(name, async (t) => {
    const victim = await Victim.start(t, directory, sizeBytes);
    await work(t, victim);
    await victim.isUnharmed(t);
    await victim.stops(t);
  });
}

/** A client that got the greeting and says `bytes`; then it waits a moment and leaves. */
async function says(victim: Victim, ...bytes: readonly Buffer[]): Promise<void> {
  const stream = await victim.target.stream();
  stream.write(u32(3), ...bytes);
  await stream.take(18).catch(() => undefined);
  await stream.stirs(20);
  stream.destroy();
}

attack("CVE-2022-26495: names and options of 0 to 2^32 - 1 bytes", async (_t, victim) => {
  for (const option of NAMED) {
    for (const length of LENGTHS) {
      await says(victim, optionHeader(option, length), Buffer.alloc(Math.min(length, 8192), 0x61));
      const claimed = Buffer.concat([u32(length), Buffer.alloc(16, 0x61)]);
      await says(victim, optionHeader(option, claimed.length), claimed);
    }
  }
});

attack("CVE-2022-26496: a name longer than its option, or than 4096 bytes", async (t, victim) => {
  for (const nameBytes of [4097, 5000, 30_000, 60_000]) {
    const handshake = await victim.target.handshake();
    const asked = handshake.ask(OPT.INFO, infoData("x".repeat(nameBytes), [1, 2, 3]));
    const answer = await asked.catch(() => null);
    t.not(answer?.final, REP.ACK);
    handshake.destroy();
  }
  for (const claimed of [7, 100, 4096, 0x7fffffff, 0xffffffff]) {
    const handshake = await victim.target.handshake();
    const data = Buffer.concat([u32(claimed), u16(0)]);
    t.equal((await handshake.ask(OPT.GO, data)).final, REP.ERR_INVALID);
    t.equal((await handshake.info(OPT.INFO, "")).final, REP.ACK, "and the connection stays");
    handshake.destroy();
  }
});

void t.test("CVE-2015-0847: a storm of signals under load", async (t) => {
  const victim = await Victim.start(t, directory);
  const client = await victim.target.go(await victim.target.handshake());
  let isOver = false;
  const load = (async () => {
    while (!isOver) {
      const writes = Array.from({ length: 16 }, (_, index) =>
        client.write(index * 8192, randomBytes(8192)),
      );
      for (const { error } of await Promise.all(writes)) t.equal(error, 0);
      await client.flush();
    }
  })();
  for (let round = 0; round < 300; round += 1) {
    victim.running.child.kill("SIGCHLD");
    victim.running.child.kill("SIGWINCH");
    if (round % 10 === 0) await sleep(1);
  }
  isOver = true;
  await load;
  t.ok(victim.running.isRunning);
  const ended = victim.running.ended();
  const writes = Array.from({ length: 64 }, () => client.write(0, Buffer.alloc(65536, 1)));
  const settled = Promise.allSettled(writes);
  for (let round = 0; round < 20; round += 1) victim.running.child.kill("SIGTERM");
  const { exitCode, signal } = await ended;
  await settled;
  t.ok(exitCode === 0 || signal === "SIGTERM", `it ends: ${exitCode} ${signal}`);
});

attack(
  "CVE-2013-7441: clients that leave at any byte, or ask for an unknown export",
  async (_t, victim) => {
    const name = infoData("", [1]);
    const whole = Buffer.concat([
      u32(3),
      optionHeader(OPT.STRUCTURED_REPLY, 0),
      optionHeader(OPT.SET_META_CONTEXT, 25),
      metaContextData("", ["base:allocation"]),
      optionHeader(OPT.GO, name.length),
      name,
      u32(MAGIC.REQUEST),
      u16(0),
      u16(CMD.READ),
      u64(1),
      u64(0),
      u32(4096),
    ]);
    for (let sentBytes = 0; sentBytes <= whole.length; sentBytes += 1) {
      const stream = await victim.target.stream();
      stream.write(whole.subarray(0, sentBytes));
      if (sentBytes % 3 === 0) await stream.stirs(2);
      stream.destroy();
    }
    for (let round = 0; round < 20; round += 1) {
      await says(victim, optionHeader(OPT.EXPORT_NAME, 7), Buffer.from("unknown"));
    }
  },
);

void t.test("CVE-2013-6410: an address that only looks like an allowed one", async (t) => {
  // The one list of addresses there is: plain NBD listens on loopback, or where it is told by name.
  for (const address of [
    "0.0.0.0",
    "12.7.0.1",
    "128.0.0.1",
    "1.127.0.0",
    "[::]",
    "[::ffff:1.2.3.4]",
    "[1::1]",
  ]) {
    const { exitCode, stderr } = await tidemark(
      "track",
      "--disk",
      "/dev/null",
      "--listen",
      `${address}:0`,
    );
    t.not(exitCode, 0, address);
    t.match(stderr, /allow-plain|loopback|numeric/, address);
  }
});

attack(
  "CVE-2011-1925, CVE-2011-0530, CVE-2005-3534: a WRITE larger than any buffer",
  async (t, victim) => {
    const before = await victim.residentBytes();
    for (const length of [(1 << 25) + 1, 1 << 26, 0x7fffffff, 0x80000000, 0xffffffff]) {
      const client = await victim.target.go(await victim.target.handshake());
      const header = client.encode({ command: CMD.WRITE, length }, 1n);
      client.stream.write(...header, Buffer.alloc(1 << 20, 0x77));
      await client.stream.stirs(50);
      client.destroy();
      const reader = await victim.target.go(await victim.target.handshake());
      const answer = await reader.read(0, length).catch(() => null);
      t.not(answer?.error, 0, `a READ of ${length} bytes`);
      reader.destroy();
    }
    const grownBytes = (await victim.residentBytes()) - before;
    t.ok(grownBytes < 256 << 20, `${grownBytes} bytes more are resident`);
  },
);

attack("CVE-2017-9524, CVE-2017-7539: clients that talk early, or nonsense", async (_t, victim) => {
  const random = new SeededRandom(1);
  for (let round = 0; round < 150; round += 1) {
    const stream = await victim.target.stream();
    const noise = randomBytes(1 + random.below(3000));
    if (round % 3 === 0) noise.writeUInt32BE(3, 0 % noise.length > 0 ? 1 : 0);
    if (round % 3 === 1) stream.write(u32(3), optionHeader(random.below(14), random.below(200)));
    stream.write(noise);
    if (round % 2 === 0) await stream.stirs(3);
    stream.destroy();
  }
});

attack("CVE-2017-10664: clients that are gone before their reply", async (_t, victim) => {
  for (let round = 0; round < 40; round += 1) {
    const client = await victim.target.go(await victim.target.handshake());
    const reads = Array.from({ length: 64 }, () => client.read(0, 1 << 20));
    const settled = Promise.allSettled(reads);
    if (round % 2 === 0) await client.stream.stirs(5);
    client.destroy();
    await settled;
    const aborting = await victim.target.handshake();
    aborting.sendOption(OPT.ABORT);
    aborting.destroy();
  }
});

attack("CVE-2017-15118: names of more than 256 bytes", async (t, victim) => {
  for (const nameBytes of [255, 256, 257, 300, 1024, 4096]) {
    const handshake = await victim.target.handshake();
    t.equal((await handshake.info(OPT.INFO, "n".repeat(nameBytes))).final, REP.ERR_UNKNOWN);
    t.equal((await handshake.info(OPT.GO, "n".repeat(nameBytes))).final, REP.ERR_UNKNOWN);
    handshake.destroy();
    await says(victim, optionHeader(OPT.EXPORT_NAME, nameBytes), Buffer.alloc(nameBytes, 0x6e));
  }
});

attack("CVE-2017-15119: an option of 4 GiB", async (t, victim) => {
  for (const option of [...NAMED, OPT.LIST, OPT.ABORT, 0x1234]) {
    const handshake = await victim.target.handshake();
    handshake.stream.write(optionHeader(option, 0xffffffff), Buffer.alloc(256 << 10));
    t.ok(await handshake.stream.ends(5000), "the connection is dropped");
    handshake.destroy();
  }
});

attack("CVE-2020-10761: an unknown export with a name of 4096 bytes", async (t, victim) => {
  for (const name of ["x".repeat(4096), "ü".repeat(2048), "%s%n".repeat(1024)]) {
    const handshake = await victim.target.handshake();
    for (const option of [OPT.INFO, OPT.GO] as const) {
      const { final, message } = await handshake.info(option, name);
      t.equal(final, REP.ERR_UNKNOWN);
      t.ok(Buffer.byteLength(message) <= 4096, "its text has a reply's room");
    }
    handshake.destroy();
  }
});

void t.test("CVE-2024-7409: a thousand idle clients while the server stops", async (t) => {
  const victim = await Victim.start(t, directory);
  const idle: ByteStream[] = [];
  for (let count = 0; count < 1000; count += 1) {
    const stream = await victim.target.stream().catch(() => null);
    if (stream === null) continue;
    if (count % 2 === 0) stream.write(u32(3));
    idle.push(stream);
  }
  t.ok(idle.length > 200, `${idle.length} are connected`);
  const before = await victim.residentBytes();
  t.ok(before < 600 << 20, `${before} bytes are resident`);
  const dropped = (await Promise.all(idle.map((stream) => stream.ends(50)))).filter(Boolean).length;
  t.ok(dropped >= idle.length - 256, `${dropped} of ${idle.length} are over the limit and dropped`);
  await victim.stops(t);
  for (const stream of idle) stream.destroy();
});

attack("CVE-2019-14850: half handshakes do not reach the disk", async (t, victim) => {
  t.equal(await victim.timesOpen(), 1);
  for (let round = 0; round < 50; round += 1) {
    await says(victim, optionHeader(OPT.LIST, 0));
    await says(victim, optionHeader(OPT.INFO, 6), infoData("", []));
  }
  t.equal(await victim.timesOpen(), 1, "the disk is not opened again");

  const device = faultDevice(memoryDevice(1 << 20));
  for (const op of ["read", "write", "flush", "trim", "writeZeroes"] as const) device.hold(op);
  const server = await NbdServer.start({ socketPath: join(directory, "half.sock") });
  server.addExport("", device);
  const target = await Target.of(server.uriOf(""));
  for (let round = 0; round < 20; round += 1) {
    const handshake = await target.handshake();
    await handshake.negotiateStructured();
    await handshake.info(OPT.INFO, "");
    await handshake.metaContexts(OPT.SET_META_CONTEXT, "", ["base:allocation"]);
    handshake.destroy();
  }
  t.equal(device.heldCount(), 0, "no request has come to the device");
  device.releaseHeld();
  await server.close();
});

attack("CVE-2019-14851: legal options in an odd order", async (t, victim) => {
  const random = new SeededRandom(14851);
  for (let round = 0; round < 40; round += 1) {
    const handshake = await victim.target.handshake();
    const steps = [
      () => handshake.negotiateStructured(),
      () => handshake.negotiateStructured(),
      () => handshake.metaContexts(OPT.LIST_META_CONTEXT, "", []),
      () => handshake.metaContexts(OPT.SET_META_CONTEXT, "", ["base:allocation"]),
      () => handshake.metaContexts(OPT.SET_META_CONTEXT, "other", ["base:allocation"]),
      () => handshake.info(OPT.INFO, ""),
      () => handshake.info(OPT.GO, "nothing"),
      () => handshake.list(),
    ];
    while (steps.length > 0) await steps.splice(random.below(steps.length), 1)[0]?.();
    const { info } = await handshake.info(OPT.GO, "");
    t.ok(info !== null);
    handshake.destroy();
  }
});

/** What came before STARTTLS is refused; the rest of the bytes may end the connection. */
async function forgets(handshake: Handshake): Promise<void> {
  for (const option of [OPT.STRUCTURED_REPLY, OPT.SET_META_CONTEXT]) await handshake.answer(option);
  const { final } = await handshake.answer(OPT.STARTTLS);
  if (final !== REP.ACK) throw new Error("STARTTLS is refused");
}

void t.test("CVE-2021-3716: what was said before STARTTLS is forgotten", async (t) => {
  const target = await tlsTarget(t, directory);
  const handshake = await target.plainHandshake();
  const meta = metaContextData("", ["base:allocation"]);
  handshake.stream.write(
    optionHeader(OPT.STRUCTURED_REPLY, 0),
    optionHeader(OPT.SET_META_CONTEXT, meta.length),
    meta,
    optionHeader(OPT.STARTTLS, 0),
    optionHeader(OPT.STRUCTURED_REPLY, 0),
  );
  if (target.offers.tls === "none") {
    await handshake.answer(OPT.STRUCTURED_REPLY);
    await handshake.answer(OPT.SET_META_CONTEXT);
    const { final } = await handshake.answer(OPT.STARTTLS);
    t.equal(final, REP.ERR_UNSUP, "without TLS there is nothing to forget");
  } else {
    const isAgreed = await forgets(handshake)
      .then(() => handshake.secure(target.tlsOptions))
      .then(() => true)
      .catch(() => false);
    t.notOk(isAgreed && (await handshake.stream.stirs(300)), "nothing from before is answered");
  }
  handshake.destroy();
  const healthy = await target.go(await target.handshake());
  t.equal((await healthy.read(0, 512)).error, 0);
  healthy.destroy();
});

attack(
  "CVE-2025-47711, CVE-2025-47712: BLOCK_STATUS around 4 GiB, at odd ends",
  async (t, victim) => {
    const handshake = await victim.target.handshake();
    await handshake.negotiateStructured();
    await handshake.metaContexts(OPT.SET_META_CONTEXT, "", [
      "base:allocation",
      "qemu:dirty-bitmap:live",
    ]);
    t.equal(handshake.contexts.length, 2);
    const client = await victim.target.go(handshake);
    for (const length of [
      0xffff_ffffn,
      0xffff_fffen,
      0xffff_fe00n,
      0xffff_f000n,
      0xffff_f001n,
      1n << 31n,
    ]) {
      for (const offset of [0n, 1n, 511n, 4095n, GIB - 1n, 2n * GIB + 1n, 6n * GIB - length]) {
        const { error } = await client.blockStatus(offset, length);
        t.equal(
          error,
          offset + length <= 6n * GIB ? 0 : ERR.EINVAL,
          `${length} bytes at ${offset}`,
        );
      }
    }
    const { error } = await client.blockStatus(6n * GIB - 1n, 2);
    t.equal(error, ERR.EINVAL);
    client.destroy();
  },
  Number(6n * GIB),
);
