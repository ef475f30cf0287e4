/**
 * The output of `strace -f -xx -y`, as a list of calls in the order in which the
 * tracer saw them begin and end. The tracer stops a thread at both, so that what
 * a thread does because another's call has ended is seen after that end.
 */

export interface SystemCall {
  readonly name: string;
  /** Everything between its parentheses. */
  readonly arguments: string;
  readonly result: string;
  /** Positions in the trace. */
  readonly beganAt: number;
  readonly endedAt: number;
}

const BEGIN = /^(\d+) +(\w+)\((.*)$/;
const RESUMED = /^(\d+) +<\.\.\. (\w+) resumed>(.*)$/;
const UNFINISHED = / *<unfinished \.\.\.>$/;
const RESULT = /\) += (.*)$/;

export function parseTrace(text: string): SystemCall[] {
  const calls: SystemCall[] = [];
  const open = new Map<
    string,
    { readonly name: string; readonly text: string; readonly at: number }
  >();
  for (const [at, line] of text.split("\n").entries()) {
    const [, thread = "", name = "", rest = ""] = RESUMED.exec(line) ?? BEGIN.exec(line) ?? [];
    if (name === "") continue;
    const begun = RESUMED.test(line) ? open.get(thread) : undefined;
    if (UNFINISHED.test(rest)) {
      open.set(thread, { name, text: rest.replace(UNFINISHED, ""), at });
      continue;
    }
    open.delete(thread);
    const whole = `${begun?.text ?? ""}${rest}`;
    const result = RESULT.exec(whole)?.[1] ?? "";
    const args = whole.replace(RESULT, "");
    calls.push({ name, arguments: args, result, beganAt: begun?.at ?? at, endedAt: at });
  }
  return calls;
}

/** The bytes of all strings in a call's arguments, one after another. */
export function bytesOf(call: SystemCall): Buffer {
  const strings = [...call.arguments.matchAll(/"((?:\\x[0-9a-f]{2})*)"/g)];
  const hex = strings.map(([, string = ""]) => string.replaceAll("\\x", "")).join("");
  return Buffer.from(hex, "hex");
}
