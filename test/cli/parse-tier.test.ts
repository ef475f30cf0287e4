import t from "tap";
import { formatTier, parseTier } from "#lib/cli/parse-tier.js";

void t.test("a tier says how far back, and how densely", async (t) => {
  t.same(parseTier("1h:all"), { withinMs: 3_600_000, everyMs: 0 });
  t.same(parseTier("1d:5m"), { withinMs: 86_400_000, everyMs: 300_000 });
  for (const text of ["1h:all", "1d:5m", "1w:1h", "90s:all", "36h:45m"]) {
    t.equal(formatTier(parseTier(text)), text);
  }
});

void t.test("what is no tier is refused with what one looks like", async (t) => {
  for (const text of ["", "1h", "1h:", ":5m", "1h:5m:1s", "1h:some", "1.5h:all", "h:m", "1y:1d"]) {
    t.throws(() => parseTier(text), {
      code: "INVALID_ARGUMENT",
      message: /as a tier: it is not like 1h:all/,
    });
  }
});
