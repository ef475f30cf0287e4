/** A read that the disk takes its time for, and those behind it on the same connection. */
import t from "tap";
import { DataDisk } from "./lab/data-disk.js";
import { runGuest } from "./lab/guest.js";
import { guestIsMissing } from "./lab/missing.js";

const skip = await guestIsMissing("dmsetup");
t.setTimeout(600_000);

const HALF_SECTORS = 32 * 2048;
const SLOW_OFFSET_BYTES = (HALF_SECTORS + 16 * 2048) * 512;

/** Sends the slow read first, all else behind it in one piece, and prints who was answered when. */
const CLIENT = `
import { connect } from "node:net";
import { once } from "node:events";
import { TrackedDisk } from "/tidemark/dist/index.js";

const [READ, WRITE] = [0, 1];
const SLOW = { cookie: 0, command: READ, offset: ${SLOW_OFFSET_BYTES} };
const others = Array.from({ length: 24 }, (_, index) => ({
  cookie: index + 1,
  command: index % 4 === 3 ? WRITE : READ,
  offset: (index + 1) * 2 ** 20,
}));

function request({ cookie, command, offset }) {
  const header = Buffer.alloc(28 + (command === WRITE ? 4096 : 0));
  header.writeUInt32BE(0x25609513, 0);
  header.writeUInt16BE(command, 6);
  header.writeBigUInt64BE(BigInt(cookie), 8);
  header.writeBigUInt64BE(BigInt(offset), 16);
  header.writeUInt32BE(4096, 24);
  return header;
}

async function answered(socketPath) {
  const socket = connect(socketPath);
  let received = Buffer.alloc(0);
  const take = async (length) => {
    while (received.length < length) {
      const [piece] = await once(socket, "data");
      received = Buffer.concat([received, piece]);
    }
    const taken = received.subarray(0, length);
    received = received.subarray(length);
    return taken;
  };
  await take(18);
  const name = Buffer.from("disk");
  const option = Buffer.alloc(20);
  option.writeUInt32BE(3, 0);
  option.write("IHAVEOPT", 4);
  option.writeUInt32BE(1, 12);
  option.writeUInt32BE(name.length, 16);
  socket.write(Buffer.concat([option, name]));
  await take(10);
  socket.write(Buffer.concat([SLOW, ...others].map(request)));
  const order = [];
  while (order.length <= others.length) {
    const reply = await take(16);
    if (reply.readUInt32BE(4) !== 0) throw new Error("error " + reply.readUInt32BE(4));
    const cookie = Number(reply.readBigUInt64BE(8));
    const { command } = cookie === 0 ? SLOW : others[cookie - 1];
    if (command === READ) await take(4096);
    order.push(cookie);
  }
  socket.destroy();
  return order;
}

for (const direct of [false, true]) {
  const disk = await TrackedDisk.open({ path: "/dev/dm-0", bitmapPath: "/tmp/bitmap" + direct, direct });
  const server = await disk.serve({ socketPath: "/tmp/nbd" + direct, exportName: "disk" });
  const order = await answered("/tmp/nbd" + direct);
  console.log((direct ? "direct" : "cached") + " order " + order.join(" "));
  await server.close();
  await disk.close();
}
`;

const JOB = `
modprobe dm-mod && modprobe dm-delay || exit 1
echo "0 ${HALF_SECTORS} linear /dev/vdb 0
${HALF_SECTORS} ${HALF_SECTORS} delay /dev/vdb ${HALF_SECTORS} 2000" > /tmp/table
dmsetup create --noudevsync uneven /tmp/table || exit 1
node /job/client.mjs
`;

void t.test(
  "one slow read holds up no request behind it, in the page cache and past it",
  { skip },
  async (t) => {
    await using disk = await DataDisk.create(64);
    const { status, output } = await runGuest({
      job: JOB,
      files: { "client.mjs": CLIENT },
      programs: ["dmsetup"],
      modules: ["dm-mod", "dm-delay"],
      withProject: true,
      memoryMib: 512,
      limitMs: 500_000,
      qemu: disk.qemu,
    });
    t.equal(status, 0, output);
    for (const way of ["cached", "direct"]) {
      const order = new RegExp(`^${way} order (.*)$`, "m").exec(output)?.[1]?.trim().split(" ");
      t.equal(order?.length, 25, `${way}: every request is answered`);
      t.equal(order?.at(-1), "0", `${way}: the slow one last: ${order?.join(" ")}`);
    }
  },
);
