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

/**
 * Whether a control may give a weight a scheme: it is legal, and on the menu or what the weight has anyway. `held` is the
 * plan at the start of the gesture, so that a stop does not vanish under a drag.
 */
export const canTake = (costs: Costs, weight: number, scheme: number, held: Uint16Array): boolean =>
  isLegal(costs, weight, scheme) && (costs.offered[scheme] === 1 || held[weight] === scheme);

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
      for (let s = 1; s < costs.schemes.length; s++)
        if (costs.offered[s] === 1 && isLegal(costs, w, s)) editable[w] = 1;
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
export const isEditable = (costs: Costs, weight: number, held: Uint16Array): boolean =>
  facts(costs).editable[weight] === 1 || held[weight] !== FLOAT16;

/** Schemes of a family by falling bits. */
export const familySchemes = (costs: Costs, family: string): readonly number[] =>
  facts(costs).families.get(family) ?? [];

interface Asked {
  costs: Costs;
  weights: ArrayLike<number>;
  family: string;
  held: Uint16Array;
  stops: Stop[];
}
let asked: Asked | null = null;
/** From so many weights on, the stops are kept for as long as nothing that they follow from changes. */
const MANY = 64;

/** Slider stops of one family for these weights: float16 first, then falling bits. */
export function stopsFor(
  costs: Costs,
  weights: ArrayLike<number>,
  family: string,
  held: Uint16Array,
): Stop[] {
  if (weights.length < MANY) return findStops(costs, weights, family, held);
  const same =
    asked?.costs === costs && asked.weights === weights && asked.family === family && asked.held === held;
  if (!asked || !same)
    asked = { costs, weights, family, held, stops: findStops(costs, weights, family, held) };
  return asked.stops;
}

function findStops(costs: Costs, weights: ArrayLike<number>, family: string, held: Uint16Array): Stop[] {
  const family16 = costs.schemes[FLOAT16]?.family;
  const schemes = family === family16 ? [] : familySchemes(costs, family);
  const stops = [FLOAT16, ...schemes].map((scheme) => {
    let takers = 0;
    let reason = "";
    for (let i = 0; i < weights.length; i++) {
      if (canTake(costs, weights[i]!, scheme, held)) takers++;
      else if (reason === "") reason = reasonFor(costs, weights[i]!, scheme);
    }
    return { nbits: costs.schemes[scheme]!.nbits, scheme, takers, reason };
  });
  return stops.filter((stop) => stop.takers > 0 || costs.offered[stop.scheme] === 1);
}

/** Families to choose from: those on the menu, and those that some of these weights have. */
export function familiesFor(costs: Costs, weights: ArrayLike<number>, held: Uint16Array): Costs["families"] {
  return costs.families.filter(
    ({ key }) =>
      familySchemes(costs, key).some((s) => costs.offered[s] === 1) ||
      familyIsLegal(costs, weights, key, held),
  );
}

/** The family a slider works in for weights that are still float16: the preferred one where legal. */
export function workingFamily(
  costs: Costs,
  weights: ArrayLike<number>,
  preferred: string,
  held: Uint16Array,
): string {
  const candidates = [preferred, ...costs.families.map((f) => f.key)];
  for (const family of candidates) {
    if (family === costs.schemes[FLOAT16]?.family) continue;
    if (familyIsLegal(costs, weights, family, held)) return family;
  }
  return preferred;
}

export function familyIsLegal(
  costs: Costs,
  weights: ArrayLike<number>,
  family: string,
  held: Uint16Array,
): boolean {
  const schemes = familySchemes(costs, family);
  for (let i = 0; i < weights.length; i++)
    if (schemes.some((s) => canTake(costs, weights[i]!, s, held))) return true;
  return false;
}

/** The legal scheme of `family` closest in bits; on a tie the gentler one. -1 where the family is illegal. */
export function nearestScheme(
  costs: Costs,
  weight: number,
  family: string,
  nbits: number,
  held: Uint16Array,
): number {
  let best = -1;
  let distance = Number.POSITIVE_INFINITY;
  for (const s of familySchemes(costs, family)) {
    if (!canTake(costs, weight, s, held)) continue;
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
 * that the result of a drag depends on where it ends and not on the stops it passed. Weights without any choice stay
 * float16 and are left out.
 */
export function assignScheme(
  costs: Costs,
  weights: ArrayLike<number>,
  scheme: number,
  start: Uint16Array,
): Assignment {
  const { editable } = facts(costs);
  let count = 0;
  for (let i = 0; i < weights.length; i++) if (chooses(weights[i]!)) count++;
  const out: Assignment = { weights: new Array(count), schemes: new Array(count), skipped: 0 };
  for (let i = 0, at = 0; i < weights.length; i++) {
    const w = weights[i]!;
    if (!chooses(w)) continue;
    const legal = canTake(costs, w, scheme, start);
    if (!legal) out.skipped++;
    out.weights[at] = w;
    out.schemes[at++] = legal ? scheme : start[w]!;
  }
  return out;

  function chooses(w: number): boolean {
    return editable[w] === 1 || start[w] !== FLOAT16;
  }
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
    const scheme = nearestScheme(costs, w, family, costs.schemes[current[w]!]!.nbits, current);
    if (scheme < 0) {
      if (isEditable(costs, w, current)) out.skipped++;
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
  const { editable } = facts(costs);
  for (let i = 0; i < weights.length; i++) {
    const w = weights[i]!;
    if (editable[w] !== 1 && current[w] === FLOAT16) continue;
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

/** A family's kind and its grain, as its label has them: "palettize, group 16" is palettize by group 16. */
export function kindOf(label: string): [kind: string, grain: string] {
  const at = label.indexOf(", ");
  return at < 0 ? [label, ""] : [label.slice(0, at), label.slice(at + 2)];
}

/** The kind that all of these weights are stored as, of those that have a choice; "" where they differ. */
export function commonKind(costs: Costs, weights: ArrayLike<number>, current: Uint16Array): string {
  const { editable } = facts(costs);
  let [kind, family] = ["", ""];
  let known = -1;
  for (let i = 0; i < weights.length; i++) {
    const w = weights[i]!;
    if (current[w] === known || (editable[w] !== 1 && current[w] === FLOAT16)) continue;
    const info = costs.schemes[current[w]!]!;
    if (info.family === family) continue;
    known = current[w]!;
    family = info.family;
    const [its] = kindOf(info.familyLabel);
    if (kind !== "" && kind !== its) return "";
    kind = its;
  }
  return kind;
}
