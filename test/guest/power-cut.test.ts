/**
 * T1, T3, G1 by the kernel's own account of what power loss leaves: dm-log-writes under
 * the file system that holds disk and bitmap. The log is replayed to points of it; each
 * is mounted, opened as on another boot, and judged as in test/system/power-cut.test.ts.
 */
import { existsSync } from "node:fs";
import t from "tap";
import { type CutFindings, type PlantedFault, POWER_CUT_TOOL } from "../support/power-cut.js";
import { DataDisk } from "./lab/data-disk.js";
import { runGuest } from "./lab/guest.js";
import { guestIsMissing } from "./lab/missing.js";

const isBuilt = existsSync(POWER_CUT_TOOL);
const skip = isBuilt
  ? await guestIsMissing("dmsetup", "mkfs.ext4")
  : "the native tests are not built";
const isSoak = process.env["TIDEMARK_SOAK"] === "1";
const POINTS = isSoak ? 240 : 36;
const WRITE_SECONDS = isSoak ? 40 : 12;
const REGION_COUNT = 16;
const DEVICE_BYTES = 96 << 20;
const LOG_MIB = 512;
const MIB = 2 ** 20;

t.setTimeout(isSoak ? 1_200_000 : 600_000);

/**
 * One data disk in three parts: the device, its log, and where the log is replayed to.
 * The points are spread over the log from where the writing began; the commit that the
 * replica had at a point is the last one that the log tells of before it.
 */
function job(fault: PlantedFault, points: number): string {
  return `${loggedWrites(fault)}
${checksOfPoints(points)}`;
}

function loggedWrites(fault: PlantedFault): string {
  const [deviceSectors, logSectors] = [DEVICE_BYTES / 512, (LOG_MIB * MIB) / 512];
  return `
fail() { echo "failed: $1"; exit 1; }
modprobe dm-mod && modprobe dm-log-writes || fail modules
part() { dmsetup create --noudevsync "$1" --table "0 $2 linear /dev/vdb $3" || fail "$1"; }
part device ${deviceSectors} 0
part replayed ${deviceSectors} ${deviceSectors}
part log ${logSectors} ${2 * deviceSectors}
dmsetup mknodes
dmsetup create --noudevsync logged --table \\
  "0 ${deviceSectors} log-writes /dev/mapper/device /dev/mapper/log" || fail logged
dmsetup mknodes
mkfs.ext4 -q -J size=4 -N 64 -E lazy_journal_init=1,lazy_itable_init=1,nodiscard \\
  /dev/mapper/logged || fail mkfs
mkdir -p /mnt /after
mount -t ext4 /dev/mapper/logged /mnt || fail mount
power_cut_tool write /mnt /run/journal 5 ${fault} "dmsetup message logged 0 mark" > /run/said &
writer=$!
until grep -q writing /run/said; do usleep 50000; kill -0 $writer || fail writer; done
dmsetup message logged 0 mark begin
sleep ${WRITE_SECONDS}
kill -9 $writer
wait $writer
umount /mnt
dmsetup remove --noudevsync logged || fail remove
`;
}

function checksOfPoints(points: number): string {
  return `
power_cut_tool log /dev/mapper/log > /run/marks || fail log
begin=$(awk '$2 == "begin" { print $1 }' /run/marks)
end=$(awk '$2 == "end" { print $1 }' /run/marks)
echo "entries $begin $end"
point=0
while [ $point -lt ${points} ]; do
  at=$((begin + (end - begin) * (point + 1) / ${points}))
  point=$((point + 1))
  commit=$(awk -v at=$at '$2 + 0 > 0 && $1 < at { last = $2 } END { print last + 0 }' /run/marks)
  power_cut_tool replay /dev/mapper/log /dev/mapper/replayed ${DEVICE_BYTES} $at || fail replay
  mount -t ext4 /dev/mapper/replayed /after || fail "mount of $at"
  found=$(power_cut_tool check-commit /after /run/journal $commit) || fail "check of $at"
  echo "point $at $found"
  umount /after
done
echo "all points"
`;
}

async function pointsOf(fault: PlantedFault, points: number) {
  await using data = await DataDisk.create((2 * DEVICE_BYTES) / MIB + LOG_MIB);
  const { status, output } = await runGuest({
    job: job(fault, points),
    programs: ["dmsetup", "mkfs.ext4", POWER_CUT_TOOL],
    modules: ["dm-mod", "dm-log-writes"],
    memoryMib: 384,
    limitMs: isSoak ? 1_000_000 : 500_000,
    qemu: data.qemu,
  });
  const found = [...output.matchAll(/^point \d+ (\{.*\})\s*$/gm)].map(
    ([, text]) => JSON.parse(text ?? "") as CutFindings,
  );
  return { status, output, found };
}

void t.test("T3: at every point of the log of a device's writes", { skip }, async (t) => {
  const { status, output, found } = await pointsOf("none", POINTS);
  t.equal(status, 0, output);
  t.equal(found.length, POINTS);
  for (const point of found) {
    if (point.lost.length + point.unflushed.length > 0) t.fail(JSON.stringify(point));
  }
  const sum = (of: (point: CutFindings) => number) =>
    found.reduce((total, point) => total + of(point), 0);
  t.ok(sum((point) => point.differing) > POINTS, "blocks differed");
  t.ok((found.at(-1)?.commits ?? 0) > 3, "the replica committed");
  t.ok(sum((point) => point.suspectRegions) < REGION_COUNT * POINTS, "regions were quiet");
  t.comment(
    `${/entries .*/.exec(output)?.[0] ?? ""}; ${sum((point) => point.differing)} blocks differed, ` +
      `${sum((point) => point.suspectRegions)} regions suspect`,
  );
});

void t.test("a planted fault is found: the intent log is not synced", { skip }, async (t) => {
  const { status, output, found } = await pointsOf("intent", 8);
  t.equal(status, 0, output);
  t.ok(found.some((point) => point.lost.length > 0));
});
