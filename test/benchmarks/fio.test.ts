import t from "tap";
import { accessName, WARM } from "../../benchmarks/access.js";
import { fioCommand, jobName, parseFio } from "../../benchmarks/fio.js";

const JOB = { mix: "randrw", blockBytes: 4096, queueDepth: 32, connections: 4 } as const;

function output(read: object, write: object, error = 0): string {
  const none = { total_ios: 0, iops: 0, bw_bytes: 0, lat_ns: { mean: 0 } };
  const jobs = [{ error, read: { ...none, ...read }, write: { ...none, ...write } }];
  return `fio: connected to NBD server\n${JSON.stringify({ jobs }, null, 2)}`;
}

const part = (count: number, meanNs: number, p50: number, p99: number) => ({
  total_ios: count,
  iops: count / 2,
  bw_bytes: count * 2048,
  lat_ns: { mean: meanNs, percentile: { "50.000000": p50, "99.000000": p99 } },
});

void t.test("reads and writes are added up; of the percentiles the slower counts", async (t) => {
  const result = parseFio(output(part(300, 1000, 900, 5000), part(100, 5000, 4000, 4500)));
  t.same(result, {
    requestCount: 400,
    iops: 200,
    mibPerSecond: (400 * 2048) / 2 ** 20,
    meanUs: 2,
    p50Us: 4,
    p99Us: 5,
  });
});

void t.test("errors, silence and garbage are no result", async (t) => {
  t.throws(() => parseFio(output(part(1, 1, 1, 1), {}, 5)), /error 5/);
  t.throws(() => parseFio(output({}, {})), /no request/);
  t.throws(() => parseFio(`{\n"jobs": []}`), /Cannot understand/);
});

void t.test("the command names the server or the file, and the load", async (t) => {
  const uri = "nbd+unix:///?socket=/s";
  const served = fioCommand(JOB, { uri }, 1 << 20, 0.5);
  for (const part of ["--ioengine=nbd", `--uri=${uri}`, "--iodepth=32", "--runtime=500ms"]) {
    t.ok(served.includes(part), part);
  }
  t.equal(served.indexOf(`--uri=${uri}`), served.indexOf("--ioengine=nbd") + 1);
  const raw = fioCommand(JOB, { path: "/a file" }, 1 << 20, 1);
  t.ok(raw.includes("--filename=/a file"));
  t.ok(raw.includes("--ioengine=psync"));
  t.ok(raw.includes("--invalidate=0"), "or fio drops the file from the page cache first");
  t.notOk(served.some((part) => part.startsWith("--fsync")));
  t.ok(fioCommand({ ...JOB, writesPerFlush: 8 }, { uri }, 1 << 20, 1).includes("--fsync=8"));
});

void t.test("a job's name says block, mix, connections and depth", async (t) => {
  t.equal(jobName(JOB), "4k randrw 4x32");
  t.equal(jobName({ ...JOB, blockBytes: 2 ** 20 }), "1m randrw 4x32");
  t.equal(jobName({ ...JOB, writesPerFlush: 8 }), "4k randrw 4x32, a flush for 8");
});

void t.test("a case's name says how the data is reached, when not as usual", async (t) => {
  t.equal(accessName(WARM), "");
  t.equal(accessName({ transport: "tcp", cache: "warm" }), ", TCP");
  t.equal(accessName({ transport: "unix", cache: "direct" }), ", direct");
  t.equal(accessName({ transport: "tcp", cache: "cold" }), ", TCP, cold");
});
