import { execFile } from "node:child_process";
import { TidemarkError } from "../../model/errors.js";
import { orAborted } from "../../model/or-aborted.js";

const LIMIT_MS = 20_000;
const OUTPUT_MAX_BYTES = 16 << 20;

/** libvirt, by its own program: one run a call, in no shell. */
export class Virsh {
  readonly uri: string;

  constructor(uri: string) {
    this.uri = uri;
  }

  /** What it printed. An abort leaves it to libvirt, for a while: what was ordered may be done. */
  async run(args: readonly string[], signal: AbortSignal): Promise<string> {
    signal.throwIfAborted();
    return orAborted(this.#run(args), signal);
  }

  /** For programs that are started otherwise. */
  arguments(args: readonly string[]): string[] {
    return ["--quiet", "--connect", this.uri, ...args];
  }

  #run(args: readonly string[]): Promise<string> {
    const options = {
      env: virshEnvironment(),
      timeout: LIMIT_MS,
      killSignal: "SIGKILL",
      maxBuffer: OUTPUT_MAX_BYTES,
    } as const;
    return new Promise((resolve, reject) => {
      execFile("virsh", this.arguments(args), options, (failure, stdout, stderr) => {
        if (failure === null) resolve(stdout);
        else reject(failed(args[0] ?? "", failure, stderr, this.uri));
      });
    });
  }
}

/** Its messages are understood in one language. */
export function virshEnvironment(): NodeJS.ProcessEnv {
  return { ...process.env, LC_ALL: "C" };
}

const SAYINGS = [
  { says: /failed to connect to the hypervisor/, code: "UNREACHABLE" },
  { says: /failed to get domain|Domain not found/, code: "NOT_FOUND" },
  { says: /domain is not running/, code: "UNREACHABLE" },
] as const;

function failed(
  command: string,
  failure: Error & { code?: unknown; killed?: boolean },
  stderr: string,
  uri: string,
): TidemarkError {
  if (failure.code === "ENOENT") return virshMissing(failure);
  if (failure.killed === true) {
    const message = `Cannot ask libvirt at ${uri}: because virsh ${command} did not end in time.`;
    return new TidemarkError("TIMED_OUT", message, { hint: "Check libvirt's service." });
  }
  const said = stderr
    .trim()
    .replace(/^error: /gm, "")
    .replace(/\s*\n\s*/g, "; ");
  const code = SAYINGS.find(({ says }) => says.test(said))?.code ?? "CONFLICT";
  return new TidemarkError(code, `libvirt refused ${command}: ${said || failure.message}`, {
    hint: `Check the VM with \`virsh -c ${uri} list --all\`.`,
  });
}

function virshMissing(cause: Error): TidemarkError {
  return new TidemarkError(
    "UNSUPPORTED",
    "Cannot ask libvirt: because the program virsh is not installed.",
    { hint: "Install it: the package libvirt-clients (Debian) or libvirt-client (Fedora).", cause },
  );
}
