import t from "tap";
import { parseDurationMs, parseWholeNumber } from "#lib/cli/context.js";

void t.test("a duration has a unit, or counts seconds", async (t) => {
  t.same(["500ms", "2s", "1.5m", "1h", "3"].map(parseDurationMs), [500, 2000, 90_000, 3.6e6, 3000]);
});

void t.test("what is no number is refused with what it was for", async (t) => {
  t.equal(parseWholeNumber("4096", "a granularity"), 4096);
  for (const text of ["", "abc", "-1", "1.5", "1e3", "9".repeat(16)]) {
    t.throws(() => parseWholeNumber(text, "a granularity"), {
      code: "INVALID_ARGUMENT",
      message: /as a granularity: it is not a whole number/,
    });
  }
  t.throws(() => parseDurationMs("2x"), { code: "INVALID_ARGUMENT" });
});
