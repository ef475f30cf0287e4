import t from "tap";
import { parsePeerUrl } from "#lib/cli/parse-peer-url.js";

void t.test("a host in short or in full", async (t) => {
  t.equal(parsePeerUrl("r.example"), "https://r.example:8461");
  t.equal(parsePeerUrl("r.example:443"), "https://r.example");
  t.equal(parsePeerUrl("r.example:9000"), "https://r.example:9000");
  t.equal(parsePeerUrl("192.0.2.7"), "https://192.0.2.7:8461");
  t.equal(parsePeerUrl("[2001:db8::1]:9000"), "https://[2001:db8::1]:9000");
  t.equal(parsePeerUrl("https://r.example:9000"), "https://r.example:9000");
  t.equal(parsePeerUrl("https://r.example:9000/"), "https://r.example:9000");
  t.equal(parsePeerUrl("https://r.example"), "https://r.example");
  for (const text of ["", "http://r", "r/x", "https://u@r", "a b", "https://r?x", "r:99999"]) {
    t.throws(() => parsePeerUrl(text), { code: "INVALID_ARGUMENT" }, text);
  }
});
