/** Which scheme a control means for which weights: legal stops, their reasons, nearest choices. */

import type { Costs } from "./protocol";

/** One position of a bits slider. `takers` weights can take it; with none it is shown greyed with `reason`. */
export interface Stop {
  nbits: number;
  scheme: number;
  takers: number;
  reason: string;
}

export interface Assignment {
  weights: number[];
  schemes: number[];
  /** how many weights could not take the choice and keep what they had */
  skipped: number;
}

export const FLOAT16 = 0;

export const isLegal = (costs: Costs, weight: number, scheme: number): boolean =>
  costs.legal[weight * costs.schemes.length + scheme] === 1;

export function reasonFor(costs: Costs, weight: number, scheme: number): string {
  const index = costs.reason[weight * costs.schemes.length + scheme] ?? -1;
  return index < 0 ? "" : (costs.reasons[index] ?? "");
}

/** Facts of a cost table that controls ask for on every repaint, found once. */
interface Facts {
  editable: Uint8Array;
  families: Map<string, number[]>;
}
const known = new WeakMap<Costs, Facts>();

function facts(costs: Costs): Facts {
  let found = known.get(costs);
  if (!found) {
    const editable = new Uint8Array(costs.elements.length);
    for (let w = 0; w < editable.length; w++)
      for (let s = 1; s < costs.schemes.length; s++) if (isLegal(costs, w, s)) editable[w] = 1;
    const families = new Map<string, number[]>();
    costs.schemes.forEach(({ family }, index) => {
      families.set(family, [...(families.get(family) ?? []), index]);
    });
    for (const list of families.values())
      list.sort((a, b) => costs.schemes[b]!.nbits - costs.schemes[a]!.nbits);
    found = { editable, families };
    known.set(costs, found);
  }
  return found;
}

/** A weight that has any choice besides float16. */
export const isEditable = (costs: Costs, weight: number): boolean => facts(costs).editable[weight] === 1;

/** Schemes of a family by falling bits. */
export const familySchemes = (costs: Costs, family: string): readonly number[] =>
  facts(costs).families.get(family) ?? [];

/** Slider stops of one family for these weights: float16 first, then falling bits. */
export function stopsFor(costs: Costs, weights: ArrayLike<number>, family: string): Stop[] {
  const family16 = costs.schemes[FLOAT16]?.family;
  const schemes = family === family16 ? [] : familySchemes(costs, family);
  return [FLOAT16, ...schemes].map((scheme) => {
    let takers = 0;
    let reason = "";
    for (let i = 0; i < weights.length; i++) {
      if (isLegal(costs, weights[i]!, scheme)) takers++;
      else if (reason === "") reason = reasonFor(costs, weights[i]!, scheme);
    }
    return { nbits: costs.schemes[scheme]!.nbits, scheme, takers, reason };
  });
}

/** The family a slider works in for weights that are still float16: the preferred one where legal. */
export function workingFamily(costs: Costs, weights: ArrayLike<number>, preferred: string): string {
  const candidates = [preferred, ...costs.families.map((f) => f.key)];
  for (const family of candidates) {
    if (family === costs.schemes[FLOAT16]?.family) continue;
    const schemes = familySchemes(costs, family);
    for (let i = 0; i < weights.length; i++)
      if (schemes.some((s) => isLegal(costs, weights[i]!, s))) return family;
  }
  return preferred;
}

export function familyIsLegal(costs: Costs, weights: ArrayLike<number>, family: string): boolean {
  const schemes = familySchemes(costs, family);
  for (let i = 0; i < weights.length; i++)
    if (schemes.some((s) => isLegal(costs, weights[i]!, s))) return true;
  return false;
}

/** The legal scheme of `family` closest in bits; on a tie the gentler one. -1 where the family is illegal. */
export function nearestScheme(costs: Costs, weight: number, family: string, nbits: number): number {
  let best = -1;
  let distance = Number.POSITIVE_INFINITY;
  for (const s of familySchemes(costs, family)) {
    if (!isLegal(costs, weight, s)) continue;
    const d = Math.abs(costs.schemes[s]!.nbits - nbits);
    if (d < distance) {
      best = s;
      distance = d;
    }
  }
  return best;
}

/**
 * Put one scheme on all weights that can take it. The others are set back to what they had in `start`, so
 * that the result of a drag depends on where it ends and not on the stops it passed.
 */
export function assignScheme(
  costs: Costs,
  weights: ArrayLike<number>,
  scheme: number,
  start: Uint16Array,
): Assignment {
  const out: Assignment = { weights: [], schemes: [], skipped: 0 };
  for (let i = 0; i < weights.length; i++) {
    const w = weights[i]!;
    const legal = isLegal(costs, w, scheme);
    if (!legal && isEditable(costs, w)) out.skipped++;
    out.weights.push(w);
    out.schemes.push(legal ? scheme : start[w]!);
  }
  return out;
}

/** Move weights to a family, each keeping its bits as nearly as the family allows. */
export function assignFamily(
  costs: Costs,
  weights: ArrayLike<number>,
  family: string,
  current: Uint16Array,
): Assignment {
  const out: Assignment = { weights: [], schemes: [], skipped: 0 };
  for (let i = 0; i < weights.length; i++) {
    const w = weights[i]!;
    const scheme = nearestScheme(costs, w, family, costs.schemes[current[w]!]!.nbits);
    if (scheme < 0) {
      if (isEditable(costs, w)) out.skipped++;
      continue;
    }
    out.weights.push(w);
    out.schemes.push(scheme);
  }
  return out;
}

/** What a control shows for several weights; those without any choice do not count. */
export interface Common {
  /** shared scheme, or -1 when they differ */
  scheme: number;
  /** shared family, or "" when they differ */
  family: string;
  meanBits: number;
  editable: number;
}

export function common(costs: Costs, weights: ArrayLike<number>, current: Uint16Array): Common {
  const result: Common = {
    scheme: FLOAT16,
    family: costs.schemes[FLOAT16]?.family ?? "",
    meanBits: 0,
    editable: 0,
  };
  let total = 0;
  for (let i = 0; i < weights.length; i++) {
    const w = weights[i]!;
    if (!isEditable(costs, w)) continue;
    const scheme = current[w]!;
    const info = costs.schemes[scheme]!;
    total += info.nbits;
    if (result.editable === 0) {
      result.scheme = scheme;
      result.family = info.family;
    } else {
      if (result.scheme !== scheme) result.scheme = -1;
      if (result.family !== info.family) result.family = "";
    }
    result.editable++;
  }
  result.meanBits = result.editable > 0 ? total / result.editable : 16;
  return result;
}
