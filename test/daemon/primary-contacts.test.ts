/** Whether a primary seems to live, and what that means for a failover. */
import { randomUUID } from "node:crypto";
import t from "tap";
import type { HostParts } from "#lib/daemon/host-parts.js";
import { PrimaryContacts } from "#lib/daemon/primary-contacts.js";
import { requireSilentPrimary } from "#lib/daemon/require-silent-primary.js";

const VM_ID = randomUUID();

function contactsAt() {
  const clock = { nowMs: 1_000_000 };
  return { clock, contacts: new PrimaryContacts(() => clock.nowMs) };
}

/** Cycles of some calls each. */
function cycles(clock: { nowMs: number }, contacts: PrimaryContacts, intervalMs: number) {
  for (let cycle = 0; cycle < 4; cycle += 1) {
    clock.nowMs += intervalMs;
    for (let call = 0; call < 5; call += 1) {
      clock.nowMs += 20;
      contacts.note(VM_ID);
    }
  }
}

/** How long after its last contact a primary is taken for alive. */
function believedForMs(intervalMs: number): number {
  const { clock, contacts } = contactsAt();
  cycles(clock, contacts, intervalMs);
  const endedMs = clock.nowMs;
  while (contacts.lately(VM_ID) !== null) clock.nowMs += 100;
  return clock.nowMs - endedMs;
}

void t.test("who was never heard of is not taken for alive", (t) => {
  t.equal(new PrimaryContacts().lately(VM_ID), null);
  const { contacts } = contactsAt();
  contacts.note(randomUUID());
  t.equal(contacts.lately(VM_ID), null);
  t.end();
});

void t.test("a few pauses of its rhythm, and never more than two minutes", (t) => {
  t.equal(believedForMs(1_000), 10_000);
  t.equal(believedForMs(10_000), 30_100);
  t.equal(believedForMs(900_000), 120_000);
  const { clock, contacts } = contactsAt();
  contacts.note(VM_ID);
  clock.nowMs += 29_000;
  t.same(contacts.lately(VM_ID), { agoMs: 29_000, remainingMs: 1_000 });
  clock.nowMs += 1_000;
  t.equal(contacts.lately(VM_ID), null);
  t.end();
});

void t.test("a failover names the last contact and the loss, and what loses nothing", async (t) => {
  const { clock, contacts } = contactsAt();
  cycles(clock, contacts, 5_000);
  clock.nowMs += 2_000;
  let promotion: object | null = null;
  const points = [
    { pointId: "old", validUntilMs: Date.now() - 3_600_000 },
    { pointId: "new", validUntilMs: Date.now() - 4_500 },
  ];
  const parts = {
    contacts,
    failovers: { promotionOf: async () => promotion },
    replicaStore: {
      listVms: async () => [{ vmId: VM_ID, vm: { name: "web" } }],
      points: async () => points,
    },
  } as unknown as HostParts;
  const refusal = (message: RegExp) => ({
    code: "CONFLICT",
    message,
    hint: /planned-failover web.*--force/,
  });
  await t.rejects(
    requireSilentPrimary(parts, VM_ID, "new"),
    refusal(/\(2 s ago\).*last 5 s would/),
  );
  await t.rejects(requireSilentPrimary(parts, VM_ID, "old"), refusal(/last 360[01] s would/));
  promotion = {};
  await requireSilentPrimary(parts, VM_ID, "new");
  promotion = null;
  clock.nowMs += 60_000;
  await requireSilentPrimary(parts, VM_ID, "new");
});
