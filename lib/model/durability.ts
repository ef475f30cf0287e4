/**
 * What marks survive without everything being compared afterwards. "power-safe": the end
 * of the process, of the kernel, and of the power. "process-safe": the end of the process;
 * after that of the kernel the whole disk is suspect.
 */
export const DURABILITIES = ["power-safe", "process-safe"] as const;

export type Durability = (typeof DURABILITIES)[number];
