import { resolve } from "node:path";
import t from "tap";
import { parseDisk } from "#lib/cli/parse-disk.js";

void t.test("a disk is a path or a URI, and may have a name", async (t) => {
  t.same(parseDisk("/images/a.img"), { path: "/images/a.img" });
  t.same(parseDisk("a.img"), { path: resolve("a.img") });
  t.same(parseDisk("vda=/images/a.img"), { name: "vda", path: "/images/a.img" });
  const uri = "nbd+unix:///root?socket=/run/q.sock";
  t.same(parseDisk(uri), { path: uri });
  t.same(parseDisk(`root=${uri}`), { name: "root", path: uri });
  t.same(parseDisk("nbd://host/a=b"), { path: "nbd://host/a=b" });
});

void t.test("a relative path may hold an equals sign", async (t) => {
  t.same(parseDisk("a=b.img"), { path: resolve("a=b.img") });
});
