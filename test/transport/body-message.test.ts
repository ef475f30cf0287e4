/**
 * A request's body, taken straight from the parser, beside what was sent: whatever its taker
 * does between two pieces.
 */
import { once } from "node:events";
import { createServer, request } from "node:http";
import { type AddressInfo, Socket } from "node:net";
import { setImmediate, setTimeout as delay } from "node:timers/promises";
import { test } from "tap";
import { BodyMessage } from "#lib/transport/body-message.js";
import { type TakePiece, takePieces } from "#lib/transport/message-body.js";

const IDLE_TIMEOUT_MS = 20_000;

/** Each byte says where in the body it is, more or less. */
function bodyOf(lengthBytes: number): Buffer {
  const body = Buffer.alloc(lengthBytes);
  for (let at = 0; at < lengthBytes; at += 1) body[at] = (at * 31 + (at >> 9)) & 0xff;
  return body;
}

/** Sends the body in chunks of uneven lengths; answers what `receive` made of it. */
async function exchange(
  body: Buffer,
  receive: (message: BodyMessage) => Promise<string>,
): Promise<string> {
  const server = createServer({ IncomingMessage: BodyMessage }, (message, response) => {
    receive(message).then(
      (text) => response.end(text),
      (thrown: unknown) => response.end(String(thrown)),
    );
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  try {
    const { port } = server.address() as AddressInfo;
    const outgoing = request({ port, host: "127.0.0.1", method: "PUT" });
    const answered = once(outgoing, "response");
    for (let at = 0, length = 1; at < body.length; at += length, length = (length * 7) % 50_021) {
      outgoing.write(body.subarray(at, at + length));
      if (at % 3 === 0) await setImmediate();
    }
    outgoing.end();
    const [answer] = (await answered) as [AsyncIterable<Buffer>];
    let text = "";
    for await (const piece of answer) text += piece.toString();
    return text;
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

async function taken(message: BodyMessage, wait: (count: number) => Promise<void> | undefined) {
  const pieces: Buffer[] = [];
  let waiting = false;
  let overlaps = 0;
  const take: TakePiece = (piece) => {
    if (waiting) overlaps += 1;
    pieces.push(piece);
    const waited = wait(pieces.length);
    waiting = waited !== undefined;
    return waited?.then(() => {
      waiting = false;
    });
  };
  await takePieces(message, IDLE_TIMEOUT_MS, take);
  return { body: Buffer.concat(pieces), overlaps };
}

const WAITS: Readonly<Record<string, (count: number) => Promise<void> | undefined>> = {
  "never waits": () => undefined,
  "waits at each piece": () => setImmediate(),
  "waits now and then": (count) => (count % 5 === 0 ? delay(1) : undefined),
  "waits for what is resolved": (count) => (count % 2 === 0 ? Promise.resolve() : undefined),
};

for (const [name, wait] of Object.entries(WAITS)) {
  void test(`a body arrives whole and in order when its taker ${name}`, async (t) => {
    const body = bodyOf(3_000_000);
    const text = await exchange(body, async (message) => {
      const { body: arrived, overlaps } = await taken(message, wait);
      t.equal(overlaps, 0, "nothing came while the taker was waited for");
      return String(arrived.equals(body));
    });
    t.equal(text, "true");
  });
}

void test("what is left when a taker throws can still be read", async (t) => {
  const body = bodyOf(500_000);
  const text = await exchange(body, async (message) => {
    let takenBytes = 0;
    const failing = takePieces(message, IDLE_TIMEOUT_MS, (piece) => {
      takenBytes += piece.length;
      if (takenBytes > 100_000) throw new Error("enough");
      return undefined;
    });
    await t.rejects(failing, { message: "enough" });
    const rest = await taken(message, () => undefined);
    return String(rest.body.equals(body.subarray(takenBytes)));
  });
  t.equal(text, "true");
});

void test("what was held back comes before what follows", async (t) => {
  const message = new BodyMessage(new Socket());
  const pieces: string[] = [];
  const take = (piece: Buffer) => void pieces.push(piece.toString());
  message.on("data", take).pause();
  message.handTo(take);
  message.push(Buffer.from("first"));
  message.resume();
  message.push(Buffer.from("second"));
  await setImmediate();
  t.same(pieces, ["first", "second"]);
});
