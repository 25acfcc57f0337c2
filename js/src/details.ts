/** What the Details panel asks Python for: an op's tensors and code, the values of weights, palettes and grids. */

import { type Signal, signal } from "@preact/signals";
import { number, text, texts, type Wire, wire, wires } from "./protocol";
import type { Requests } from "./requests";

export interface Tensor {
  parameter: string;
  name: string;
  shape: string;
  dtype: string;
  bytes: number;
  /** op that makes it, or -1 */
  producer: number;
  /** weight that it is, or -1 */
  weight: number;
}

export interface Frame {
  file: string;
  line: number;
  function: string;
  /** code around the line; the line alone where the file is not there any more */
  lines: string[];
  /** number of the first of them */
  first: number;
}

export interface OpFacts {
  inputs: Tensor[];
  outputs: Tensor[];
  /** other modules whose code was fused into the op */
  fused: string[];
  /** why activations cannot be int8, or "" */
  int8: string;
  /** innermost first */
  frames: Frame[];
}

export interface Distribution {
  dtype: string;
  /** torch parameter that the weight holds, and that it was computed from */
  parameter: string;
  foldedFrom: string;
  /** of each scheme: bytes of tables, scales, masks and zero points, and how many tables */
  overheadBytes: number[];
  tables: number[];
  /** in equal bins from min to max */
  counts: number[];
  min: number;
  max: number;
  mean: number;
  std: number;
  /** share of zeros, 0 to 1 */
  zeros: number;
  notFinite: number;
}

export interface Levels {
  values: number[];
  kind: string;
  /** which group they are of, from 0, and of how many */
  group: number;
  groups: number;
  place: string;
  /** share of zeros after pruning, 0 to 1, or NaN */
  zeros: number;
}

/** Why Python could not say. */
export interface Failure {
  message: string;
}

export const failed = <T extends object>(answer: T | Failure): answer is Failure => "message" in answer;

const tensor = (raw: Wire): Tensor => ({
  parameter: text(raw.parameter),
  name: text(raw.name),
  shape: text(raw.shape),
  dtype: text(raw.dtype),
  bytes: number(raw.bytes),
  producer: number(raw.producer),
  weight: number(raw.weight),
});

const decodeOp = (raw: Wire): OpFacts => ({
  inputs: wires(raw.inputs).map(tensor),
  outputs: wires(raw.outputs).map(tensor),
  fused: texts(raw.fused),
  int8: text(raw.int8),
  frames: wires(raw.frames).map((frame) => ({
    file: text(frame.file),
    line: number(frame.line),
    function: text(frame.function),
    lines: texts(frame.lines),
    first: number(frame.first),
  })),
});

const numbers = (value: unknown): number[] => (Array.isArray(value) ? value.map(number) : []);

const decodeDistribution = (raw: Wire): Distribution => ({
  dtype: text(raw.dtype),
  parameter: text(raw.parameter),
  foldedFrom: text(raw.folded_from),
  overheadBytes: numbers(raw.overhead_bytes),
  tables: numbers(raw.tables),
  counts: numbers(raw.counts),
  min: number(raw.min),
  max: number(raw.max),
  mean: number(raw.mean),
  std: number(raw.std),
  zeros: number(raw.zeros),
  notFinite: number(raw.not_finite),
});

const decodeLevels = (raw: Wire): Levels => ({
  values: numbers(raw.values),
  kind: text(raw.kind),
  group: number(raw.group),
  groups: number(raw.groups),
  place: text(raw.place),
  zeros: raw.zeros === null || raw.zeros === undefined ? Number.NaN : number(raw.zeros),
});

/** Answers by what was asked; one question is out at a time, and of those that come meanwhile the last is asked next. */
class Answers<T extends object> {
  private readonly found = new Map<string, T | Failure>();
  private readonly arrived: Signal<number> = signal(0);
  private asked = "";
  private next: { key: string; fields: Wire } | null = null;

  constructor(
    private readonly requests: Requests,
    private readonly decode: (raw: Wire) => T,
  ) {}

  /** What is known, or null; whoever reads it is told when more is. */
  get(key: string): T | Failure | null {
    this.arrived.value;
    return this.found.get(key) ?? null;
  }

  want(key: string, fields: Wire): void {
    if (this.found.has(key)) return;
    if (this.asked === "") void this.ask(key, fields);
    else if (this.asked !== key) this.next = { key, fields };
  }

  clear(): void {
    this.found.clear();
    this.asked = "";
    this.next = null;
    this.arrived.value++;
  }

  private async ask(key: string, fields: Wire): Promise<void> {
    this.asked = key;
    const raw = wire(await this.requests.look("details", fields));
    this.asked = "";
    this.found.set(key, raw.ok ? this.decode(raw) : { message: text(raw.message) });
    const next = this.next;
    this.next = null;
    if (next) this.want(next.key, next.fields);
    this.arrived.value++;
  }
}

export class Details {
  private readonly ops: Answers<OpFacts>;
  private readonly weights: Answers<Distribution>;
  private readonly grids: Answers<Levels>;

  constructor(requests: Requests) {
    this.ops = new Answers(requests, decodeOp);
    this.weights = new Answers(requests, decodeDistribution);
    this.grids = new Answers(requests, decodeLevels);
  }

  op(op: number): OpFacts | Failure | null {
    return this.ops.get(String(op));
  }

  wantOp(op: number): void {
    this.ops.want(String(op), { what: "op", op });
  }

  /** @param schemes how many there are in the cost table: with more of them the answer is longer */
  weight(weight: number, schemes: number): Distribution | Failure | null {
    return this.weights.get(`${weight}/${schemes}`);
  }

  wantWeight(weight: number, schemes: number): void {
    this.weights.want(`${weight}/${schemes}`, { what: "weight", weight });
  }

  levels(weight: number, scheme: number): Levels | Failure | null {
    return this.grids.get(`${weight}/${scheme}`);
  }

  wantLevels(weight: number, scheme: number): void {
    this.grids.want(`${weight}/${scheme}`, { what: "levels", weight, scheme });
  }

  /** Forget everything: of another program. */
  clear(): void {
    for (const answers of [this.ops, this.weights, this.grids]) answers.clear();
  }
}
