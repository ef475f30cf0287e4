/** A place that breaks a rule, and how. */
export interface Finding {
  readonly path: string;
  /** From 1; absent when the whole file is meant. */
  readonly line?: number;
  readonly message: string;
}

export function formatFinding({ path, line, message }: Finding): string {
  return `${path}${line === undefined ? "" : `:${line}`}: ${message}`;
}
