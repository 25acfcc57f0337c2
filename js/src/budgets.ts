/** Budgets: the most that a plan may take of one thing, as `talaria_nb.budgets` reads them. */

import * as format from "./format";
import { number, type Wire, wire } from "./protocol";

export type Metric = "size" | "bits" | "latency" | "energy";
export const METRICS: readonly Metric[] = ["size", "latency", "energy", "bits"];

/** metric → the most, in bytes, ms, mJ or bits */
export type Budgets = Partial<Record<Metric, number>>;

/** metric → unit → how many of the metric's own it is */
export type BudgetUnits = Record<Metric, Record<string, number>>;

export function decodeBudgets(value: unknown): Budgets {
  const raw: Wire = wire(value);
  return Object.fromEntries(METRICS.filter((m) => raw[m] !== undefined).map((m) => [m, number(raw[m])]));
}

/** "4 MB" → size, 4e6; null for what is no budget. */
export function parseBudget(text: string, units: BudgetUnits): [Metric, number] | null {
  const match = /^\s*(\d+\.?\d*|\.\d+)\s*([^\W\d]+|µ[a-zA-Z]+)\s*$/u.exec(text);
  if (!match) return null;
  for (const metric of METRICS) {
    const factor = units[metric]?.[match[2]!];
    const most = Number(match[1]) * (factor ?? Number.NaN);
    if (most > 0) return [metric, most];
  }
  return null;
}

/** What to write in place of what is no budget. */
export function budgetHint(text: string): string {
  const number = /^\s*(\d+\.?\d*|\.\d+)\s*$/.exec(text)?.[1];
  return number
    ? `Write “${number} MB” or “${number} bits”`
    : "Write a number and a unit: 4 MB, 5 ms, 2 mJ or 3.6 bits";
}

/** "4 MB", "5 ms" */
export function budgetText(metric: Metric, most: number): string {
  switch (metric) {
    case "size":
      return format.bytes(most).replace(/\.0+(?=\D|$)/, "");
    case "latency":
      return `${Number(most.toPrecision(4))}${format.THIN}ms`;
    case "energy":
      return `${Number(most.toPrecision(4))}${format.THIN}mJ`;
    case "bits":
      return `${Number(most.toPrecision(4))}${format.THIN}${most === 1 ? "bit" : "bits"}`;
  }
}

/** "78 % of 4 MB budget", "12 % over the 4 MB budget": in words, not by colour alone. */
export function budgetUse(metric: Metric, now: number, most: number): string {
  const part = Math.abs(now / most - 1) * 100;
  if (now <= most) return `${format.share(now, most)} of ${budgetText(metric, most)} budget`;
  const over = part < 9.95 ? (Math.ceil(part * 10) / 10).toFixed(1) : part.toFixed(0);
  return `${over}${format.THIN}% over the ${budgetText(metric, most)} budget`;
}
