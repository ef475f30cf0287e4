import t from "tap";
import { parseSize } from "#lib/cli/parse-size.js";

void t.test("a size has a unit, or counts bytes, and may be an addition", async (t) => {
  t.same(parseSize("20GiB"), { bytes: 20 * 2 ** 30, isRelative: false });
  t.same(parseSize("+5MiB"), { bytes: 5 << 20, isRelative: true });
  t.same(parseSize("4096"), { bytes: 4096, isRelative: false });
});

void t.test("what is no size is refused with what one looks like", async (t) => {
  for (const text of ["", "0", "+0GiB", "-5GiB", "1.5GiB", "20GB", "20 GiB", "9000000PiB", "x"]) {
    t.throws(() => parseSize(text), {
      code: "INVALID_ARGUMENT",
      message: /as a size: it is not like 20GiB/,
    });
  }
});
