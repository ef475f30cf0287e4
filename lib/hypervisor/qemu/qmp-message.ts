import { z } from "zod";
import { TidemarkError } from "../../model/errors.js";

export interface QmpEvent {
  readonly kind: "event";
  readonly name: string;
  readonly data: Readonly<Record<string, unknown>>;
}

export interface QmpRefusal {
  readonly kind: "refusal";
  readonly id: number | null;
  readonly errorClass: string;
  readonly description: string;
}

interface QmpAnswer {
  readonly kind: "answer";
  readonly id: number | null;
  readonly value: unknown;
}

type QmpMessage = QmpEvent | QmpRefusal | QmpAnswer | { readonly kind: "greeting" };

const ID = z.number().nullish();
const GREETING = z.object({ QMP: z.object({}) });
const EVENT = z.object({ event: z.string(), data: z.record(z.string(), z.unknown()).optional() });
const REFUSAL = z.object({ id: ID, error: z.object({ class: z.string(), desc: z.string() }) });
const ANSWER = z.object({ id: ID, return: z.unknown() });

/** Throws CORRUPT for what is no message of QMP. */
export function qmpMessage(line: string): QmpMessage {
  const value = parsed(line);
  if (GREETING.safeParse(value).success) return { kind: "greeting" };
  const event = EVENT.safeParse(value).data;
  if (event !== undefined) return { kind: "event", name: event.event, data: event.data ?? {} };
  const refusal = REFUSAL.safeParse(value).data;
  if (refusal !== undefined) {
    const { class: errorClass, desc: description } = refusal.error;
    return { kind: "refusal", id: refusal.id ?? null, errorClass, description };
  }
  const answer = ANSWER.safeParse(value).data;
  if (answer !== undefined && "return" in answer) {
    return { kind: "answer", id: answer.id ?? null, value: answer.return };
  }
  throw notQmp();
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line) as unknown;
  } catch (cause) {
    throw notQmp(cause);
  }
}

function notQmp(cause?: unknown): TidemarkError {
  return new TidemarkError(
    "CORRUPT",
    "Cannot read QEMU's monitor: because what it says is not QMP.",
    { hint: "Check that the socket is a QMP monitor (-qmp, not -monitor).", cause },
  );
}
