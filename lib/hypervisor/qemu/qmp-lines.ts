import { TidemarkError } from "../../model/errors.js";

/** A machine with hundreds of disks describes itself in less than one MiB. */
const LINE_MAX_BYTES = 16 << 20;

/** Cuts what arrives into lines, however it arrives. */
export class QmpLines {
  #pieces: Buffer[] = [];
  #heldBytes = 0;

  push(chunk: Buffer): string[] {
    const lines: string[] = [];
    let from = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, from)) {
      this.#hold(chunk.subarray(from, end));
      lines.push(Buffer.concat(this.#pieces).toString("utf8"));
      this.#pieces = [];
      this.#heldBytes = 0;
      from = end + 1;
    }
    this.#hold(chunk.subarray(from));
    return lines;
  }

  #hold(piece: Buffer): void {
    this.#heldBytes += piece.length;
    if (this.#heldBytes > LINE_MAX_BYTES) {
      throw new TidemarkError(
        "LIMIT_REACHED",
        `Cannot read QEMU's monitor: because a line has more than ${LINE_MAX_BYTES} bytes.`,
        { hint: "Check that the socket is a QMP monitor." },
      );
    }
    this.#pieces.push(piece);
  }
}
