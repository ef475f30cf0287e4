import { Command } from "commander";
import type { PeerTestReportBody } from "../../management/peer-schemas.js";
import { clientOf, globalOptions, tidemarkHere } from "../context.js";
import { printJson } from "../output.js";
import { parsePeerUrl } from "../parse-peer-url.js";

export function peerTestCommand(): Command {
  return new Command("test")
    .description("test step by step whether this host could replicate to another")
    .argument("<host>", "its name, HOST:PORT, or https://HOST:PORT")
    .option("--proxy <url>", "a proxy on the way that knows CONNECT, http://HOST:PORT")
    .action(async (host: string, options: { proxy?: string }, command: Command) => {
      const report = await clientOf(command).call("peerTest", {
        url: parsePeerUrl(host),
        ...(options.proxy === undefined ? {} : { proxyUrl: options.proxy }),
      });
      if (!report.isReady) process.exitCode = 1;
      if (globalOptions(command).json) return printJson(report);
      process.stdout.write(describe(report, tidemarkHere(command)));
    });
}

function describe({ url, steps, isReady }: PeerTestReportBody, tidemark: string): string {
  const width = Math.max(...steps.map(({ step }) => step.length));
  const lines = steps.map(({ step, outcome, detail, hint }) => {
    const what = outcome === "not tried" ? "" : ` ${detail}${hint === null ? "" : ` ${hint}`}`;
    return `${step.padEnd(width)}  ${outcome.padEnd(9)}${what}`.trimEnd();
  });
  const verdict = isReady
    ? `Ready: ${tidemark} vm enable VM --disk PATH --replica ${url}`
    : "Not ready.";
  return `${lines.join("\n")}\n${verdict}\n`;
}
