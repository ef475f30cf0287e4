import t from "tap";
import { selectVms } from "#lib/daemon/select-vms.js";
import type { HostParts } from "#lib/daemon/host-parts.js";
import { vmSelector, type VmSelector } from "#lib/management/bulk-schemas.js";

const VMS = [
  ["web1", "https://a:1", "replicating"],
  ["web2", "https://a:1", "suspended"],
  ["web10", "https://b:1", "error"],
  ["db.1", "https://b:1", "replicating"],
] as const;

const parts = {
  vms: { definitions: () => VMS.map(([name]) => ({ vmId: `id-of-${name}`, name, disks: [] })) },
  engine: {
    has: () => true,
    targetsOf: (vmId: string) =>
      vmId === "id-of-web1" ? [{ id: "id-of-further", name: "far" }] : [],
    status: async (vmId: string) => {
      if (vmId === "id-of-further")
        return { state: "suspended", settings: { replicaUrl: "https://far:1" } };
      const found = VMS.find(([name]) => `id-of-${name}` === vmId);
      if (found === undefined) throw new Error("gone");
      return { state: found[2], settings: { replicaUrl: found[1] } };
    },
  },
} as unknown as HostParts;

const named = async (selector: VmSelector) =>
  (await selectVms(parts, selector)).map(({ name }) => name).join(" ");

void t.test("names, ids and patterns", async (t) => {
  t.equal(await named({ names: ["web1"] }), "web1 web1@far");
  t.equal(await named({ names: ["web1@far"] }), "web1@far");
  t.equal(await named({ names: ["web*@far"] }), "web1@far");
  t.equal(await named({ names: ["id-of-web2", "db.1"] }), "web2 db.1");
  t.equal(await named({ names: ["web*"] }), "web1 web1@far web2 web10");
  t.equal(await named({ names: ["web?"] }), "web1 web1@far web2");
  t.equal(await named({ names: ["*"] }), "web1 web1@far web2 web10 db.1");
  t.equal(await named({ names: ["d?.1", "web1"] }), "web1 web1@far db.1");
  await t.rejects(named({ names: ["web2@far"] }), { code: "NOT_FOUND", message: /web2@far/ });
  await t.rejects(named({ names: ["db*1*", "d[b].1"] }), {
    code: "NOT_FOUND",
    message: /VM d\[b\]/,
  });
  await t.rejects(named({ names: ["web1", "webx"] }), { code: "NOT_FOUND", message: /VM webx/ });
});

void t.test("all that is said must fit", async (t) => {
  t.equal(await named({ all: true }), "web1 web1@far web2 web10 db.1");
  t.equal(await named({ state: "replicating" }), "web1 db.1");
  t.equal(await named({ replicaUrl: "https://b:1/" }), "web10 db.1");
  t.equal(await named({ replicaUrl: "https://b:1", state: "replicating" }), "db.1");
  t.equal(await named({ names: ["web*"], state: "replicating" }), "web1");
  t.equal(await named({ names: ["web*"], replicaUrl: "https://c:1" }), "");
  t.equal(await named({ replicaUrl: "https://far:1" }), "web1@far");
});

void t.test("an order for everything has to say so", async (t) => {
  t.equal(vmSelector.safeParse({}).success, false);
  t.equal(vmSelector.safeParse({ names: [] }).success, false);
  t.equal(vmSelector.safeParse({ all: true }).success, true);
  t.equal(vmSelector.safeParse({ names: ["a"] }).success, true);
});
