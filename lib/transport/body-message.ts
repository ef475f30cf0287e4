import { IncomingMessage } from "node:http";

/**
 * A request whose body can be taken straight from the parser: a stream's queue, events and
 * microtasks for each TLS record cost more than what is done with most of them.
 */
export class BodyMessage extends IncomingMessage {
  #take: ((piece: Buffer) => void) | undefined;

  /**
   * Beside a listener for "data", which gets what came while the message was paused. As the
   * stream's own, `take` may pause it.
   */
  handTo(take: ((piece: Buffer) => void) | undefined): void {
    this.#take = take;
  }

  override push(chunk: unknown, encoding?: BufferEncoding): boolean {
    const isDirect = this.readableFlowing === true && this.readableLength === 0;
    if (this.#take === undefined || chunk === null || !isDirect) {
      return super.push(chunk, encoding);
    }
    this.#take(chunk as Buffer);
    return true;
  }
}
