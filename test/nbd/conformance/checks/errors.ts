/** Requests that cannot succeed: the right error, nothing changed, the connection kept. */
import { CMD, CMD_FLAG, ERR, FLAG, MAGIC, nameOf, u16, u32, u64 } from "../../client/wire.js";
import type { Check, CheckContext } from "../check.js";
import type { Request, Transmission } from "../../client/transmission.js";

const MIB = 1 << 20;

interface Command {
  readonly command: number;
  readonly isWrite: boolean;
  /** Past the end. */
  readonly error: number;
}

const COMMANDS: readonly (Command & { readonly flag: number })[] = [
  { command: CMD.READ, flag: 0, isWrite: false, error: ERR.EINVAL },
  { command: CMD.WRITE, flag: 0, isWrite: true, error: ERR.ENOSPC },
  { command: CMD.TRIM, flag: FLAG.SEND_TRIM, isWrite: true, error: ERR.EINVAL },
  { command: CMD.WRITE_ZEROES, flag: FLAG.SEND_WRITE_ZEROES, isWrite: true, error: ERR.ENOSPC },
  { command: CMD.CACHE, flag: FLAG.SEND_CACHE, isWrite: false, error: ERR.EINVAL },
];

function offeredCommands(c: CheckContext): readonly Command[] {
  const { isReadOnly } = c.target;
  return COMMANDS.filter(({ flag }) => flag === 0 || c.target.has(flag)).filter(
    ({ isWrite }) => !isReadOnly || !isWrite,
  );
}

function requestOf(command: number, offset: bigint, lengthBytes: number): Request {
  const isWrite = command === CMD.WRITE;
  return {
    command,
    offset,
    ...(isWrite ? { payload: Buffer.alloc(lengthBytes, 0x5e) } : { length: lengthBytes }),
  };
}

async function pastTheEnd(c: CheckContext, client: Transmission): Promise<void> {
  const { sizeBytes, blockBytes } = c.target;
  const block = BigInt(blockBytes);
  const places: [string, bigint, number][] = [
    ["at the end", sizeBytes, blockBytes],
    ["across the end", sizeBytes - block, 2 * blockBytes],
    ["at 2^63", 1n << 63n, blockBytes],
    ["to 2^64 and over", (1n << 64n) - block, 2 * blockBytes],
    ["at 2^64 less a block", (1n << 64n) - block, blockBytes],
  ];
  for (const { command, error } of offeredCommands(c)) {
    for (const [where, offset, lengthBytes] of places) {
      if (offset < 0n || offset + BigInt(lengthBytes) <= sizeBytes) continue;
      const reply = await client.request(requestOf(command, offset, lengthBytes));
      c.refuses(reply, error, `${nameOf(CMD, command)} ${where}`);
    }
  }
}

async function unknownFlags(c: CheckContext, client: Transmission): Promise<void> {
  const { blockBytes } = c.target;
  const wrong: [number, number, string][] = [
    [CMD.READ, 1 << 15, "an unknown flag"],
    [CMD.READ, CMD_FLAG.REQ_ONE, "REQ_ONE"],
    [CMD.READ, CMD_FLAG.NO_HOLE, "NO_HOLE"],
    [CMD.FLUSH, 1 << 14, "an unknown flag"],
  ];
  if (!c.target.isReadOnly) {
    wrong.push([CMD.WRITE, 1 << 15, "an unknown flag"], [CMD.WRITE, CMD_FLAG.DF, "DF"]);
    wrong.push([CMD.WRITE, CMD_FLAG.FAST_ZERO, "FAST_ZERO"]);
    if (c.target.has(FLAG.SEND_TRIM)) wrong.push([CMD.TRIM, CMD_FLAG.NO_HOLE, "NO_HOLE"]);
    if (c.target.has(FLAG.SEND_WRITE_ZEROES))
      wrong.push([CMD.WRITE_ZEROES, 1 << 13, "an unknown flag"]);
  }
  if (c.target.has(FLAG.SEND_CACHE)) wrong.push([CMD.CACHE, 1 << 15, "an unknown flag"]);
  for (const [command, flags, what] of wrong) {
    if (command === CMD.FLUSH && !c.target.has(FLAG.SEND_FLUSH)) continue;
    const lengthBytes = command === CMD.FLUSH ? 0 : blockBytes;
    const reply = await client.request({ ...requestOf(command, 0n, lengthBytes), flags });
    const said = `${nameOf(CMD, command)} with ${what}`;
    c.should(reply.error !== 0, `${said} succeeds`);
    c.should(
      reply.error === 0 || reply.error === ERR.EINVAL,
      `${said}: ${nameOf(ERR, reply.error)}, not EINVAL`,
    );
  }
}

export const ERROR_CHECKS: readonly Check[] = [
  {
    name: "errors-server-invalid-offset",
    about: "EINVAL past the end (ENOSPC for writing), also where offset and length overflow",
    run: async (c) => {
      for (const style of c.target.offers.styles) {
        const client = await c.transmission(style);
        await pastTheEnd(c, client);
        await c.isServed(client, "requests past the end");
        client.destroy();
      }
    },
  },
  {
    name: "errors-server-oversize",
    about: "refuses more than the maximum payload with an error or the end, and is not harmed",
    run: async (c) => {
      const { maximumBytes } = c.target;
      c.offered(maximumBytes <= 1 << 26, "a maximum payload of at most 64 MiB");
      const commands = c.target.isReadOnly ? [CMD.READ] : [CMD.READ, CMD.WRITE];
      for (const command of commands) {
        const client = await c.transmission();
        const asked = client.request(requestOf(command, 0n, maximumBytes + c.target.blockBytes));
        const reply = await asked.catch((thrown: unknown) => thrown);
        if (reply instanceof Error)
          c.note(`${nameOf(CMD, command)} over the maximum: ${reply.message}`);
        else {
          const { error } = reply as { error: number };
          const isAllowed = error !== 0 || c.target.sizeBytes > BigInt(maximumBytes);
          c.must(isAllowed, `${nameOf(CMD, command)} past the end and over the maximum succeeds`);
          const isKept = await client.read(0, c.target.blockBytes).catch(() => null);
          if (isKept === null)
            c.note(`${nameOf(CMD, command)} over the maximum ends the connection`);
        }
        client.destroy();
      }
      await c.isAlive("oversize requests");
    },
  },
  {
    name: "errors-server-unadvertised-cmd",
    about: "EINVAL for commands that are not defined or not advertised",
    run: async (c) => {
      const client = await c.transmission();
      const unknown = [8, 9, 0x7777, 0xffff];
      const hidden = COMMANDS.filter(({ flag }) => flag !== 0 && !c.target.has(flag));
      for (const command of [...unknown, ...hidden.map(({ command }) => command)]) {
        if (command === CMD.RESIZE && c.target.has(FLAG.SEND_RESIZE)) continue;
        const { error } = await client.request(requestOf(command, 0n, c.target.blockBytes));
        const said = `command ${nameOf(CMD, command)}, which is not advertised`;
        if (error === 0 && !unknown.includes(command)) c.note(`${said}, succeeds`);
        else {
          const isRight = error === ERR.EINVAL || (c.target.isReadOnly && error === ERR.EPERM);
          c.should(isRight, `${said}: ${nameOf(ERR, error)}, not EINVAL`);
        }
      }
      await c.isServed(client, "unknown commands");
    },
  },
  {
    name: "errors-server-unknown-flags",
    about: "EINVAL for flags that are not defined, not negotiated, or another command's",
    run: async (c) => {
      for (const style of c.target.offers.styles) {
        const client = await c.transmission(style);
        await unknownFlags(c, client);
        await c.isServed(client, "unknown flags");
        client.destroy();
      }
    },
  },
  {
    name: "errors-server-unaligned",
    about: "EINVAL, and nothing changed, for what is not aligned to the minimum block",
    run: async (c) => {
      const { blockBytes } = c.target;
      c.offered(blockBytes > 1, "a minimum block over 1 byte");
      const client = await c.transmission();
      const before = (await client.read(0, 2 * blockBytes)).data;
      for (const { command } of offeredCommands(c)) {
        for (const [offset, lengthBytes] of [
          [1n, blockBytes],
          [0n, 1],
          [0n, blockBytes + 1],
        ] as const) {
          const reply = await client.request(requestOf(command, offset, lengthBytes));
          const said = `unaligned ${nameOf(CMD, command)}`;
          c.should(reply.error === ERR.EINVAL, `${said}: ${nameOf(ERR, reply.error)}, not EINVAL`);
        }
      }
      const after = (await client.read(0, 2 * blockBytes)).data;
      c.must(before.equals(after), "an unaligned request that was refused changed data");
    },
  },
  {
    name: "errors-server-zerosize",
    about: "success or EINVAL for requests of 0 bytes, and the connection stays",
    run: async (c) => {
      for (const style of c.target.offers.styles) {
        const client = await c.transmission(style);
        for (const { command } of offeredCommands(c)) {
          const { error } = await client.request(requestOf(command, 0n, 0));
          const isFine = error === 0 || error === ERR.EINVAL;
          c.should(isFine, `${nameOf(CMD, command)} of 0 bytes: ${nameOf(ERR, error)}`);
        }
        await c.isServed(client, "requests of 0 bytes");
        client.destroy();
      }
    },
  },
  {
    name: "errors-bad-cookie",
    about: "gives back every cookie with all its 64 bits, in whatever order it answers",
    run: async (c) => {
      for (const style of c.target.offers.styles) {
        const client = await c.transmission(style);
        const cookies = [
          0n,
          1n,
          1n << 31n,
          1n << 32n,
          1n << 63n,
          (1n << 64n) - 1n,
          0x67446698_25609513n,
        ];
        const length = c.target.blockBytes;
        const asked = cookies.map((cookie) =>
          client.request({ command: CMD.READ, length, cookie }),
        );
        for (const reply of await Promise.all(asked)) c.succeeds(reply, "a read");
        client.destroy();
      }
    },
  },
  {
    name: "errors-bad-magic",
    about: "ends a connection whose requests have lost their magic, and does nothing",
    run: async (c) => {
      const client = await c.transmission();
      client.stream.write(
        u32(MAGIC.REQUEST ^ 1),
        u16(0),
        u16(CMD.READ),
        u64(1),
        u64(0),
        u32(512),
        u64(0),
      );
      const isDropped = await client.stream.ends(2000);
      c.should(isDropped, "a request with a wrong magic does not end the connection");
      c.should(client.stream.bufferedBytes === 0, "a request with a wrong magic is answered");
      await c.isAlive("a wrong request magic");
    },
  },
  {
    name: "errors-read-only",
    about: "EPERM for whatever would write on a read-only export",
    run: async (c) => {
      c.offered(c.target.isReadOnly, "a read-only export");
      const client = await c.transmission();
      const length = Math.min(4096, Number(c.target.sizeBytes));
      // What is there already is written, so that a server that fails here does no harm.
      const { data } = await client.read(0, length);
      c.refuses(await client.write(0, data), ERR.EPERM, "WRITE to a read-only export");
      const isZero = data.every((byte) => byte === 0);
      if (isZero) {
        c.refuses(
          await client.writeZeroes(0, length),
          ERR.EPERM,
          "WRITE_ZEROES to a read-only export",
        );
        c.refuses(await client.trim(0, length), ERR.EPERM, "TRIM of a read-only export");
      }
      await c.isServed(client, "writes to a read-only export");
    },
  },
  {
    name: "errors-pread-structured",
    about: "answers a READ that fails with an error chunk once structured replies are agreed",
    run: async (c) => {
      const client = await c.transmission("structured");
      const reply = await client.read(c.target.sizeBytes, c.target.blockBytes);
      c.refuses(reply, ERR.EINVAL, "READ at the end");
      c.must(reply.style === "structured", "a simple reply to a READ that fails");
      const flagged = await client.read(0, c.target.blockBytes, 1 << 15);
      c.should(
        flagged.error === ERR.EINVAL,
        "READ with an unknown flag is not refused with EINVAL",
      );
    },
  },
  {
    name: "errors-write-data-kept",
    about: "a WRITE that is refused changes nothing, and its payload is consumed",
    run: async (c) => {
      c.writable(MIB);
      const client = await c.transmission();
      const lengthBytes = 65536;
      const at = c.target.sizeBytes - BigInt(lengthBytes) / 2n;
      const half = lengthBytes / 2;
      const before = (await client.read(at, half)).data;
      await client.request({
        command: CMD.WRITE,
        offset: at,
        payload: Buffer.alloc(lengthBytes, 0x25),
      });
      await client.request({
        command: CMD.WRITE,
        offset: 0,
        payload: Buffer.alloc(half, 0x25),
        flags: 1 << 15,
      });
      const after = (await client.read(at, half)).data;
      c.should(before.equals(after), "a WRITE across the end changed what is before the end");
      await c.isServed(client, "WRITEs that are refused");
    },
  },
];
