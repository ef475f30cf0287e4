/** What a target is called by default: its host, as far as a name may be like it. */
export function targetNameOf(replicaUrl: string): string {
  const { hostname } = new URL(replicaUrl);
  const plain = hostname.replace(/[^A-Za-z0-9._-]/g, "-").replace(/^[^A-Za-z0-9]+/, "");
  return plain.slice(0, 64) || "target";
}
