/** The Export menu's conversation with Python: what is asked for, how far it is, and what came back. */

import { batch, type Signal, signal } from "@preact/signals";
import { number, text, texts, type Wire, wire, wires } from "./protocol";
import type { Progress, Requests } from "./requests";

export type ExportKind = "python" | "coremltools" | "plan" | "configs" | "torch" | "package";

export interface ExportRequest {
  what: ExportKind;
  /** where to save; texts are only shown without */
  path?: string;
  /** whether what is there may be replaced */
  replace?: boolean;
}

export interface Report {
  verdict: string;
  ok: boolean;
  weights: number;
  /** weights that take as many bytes as predicted */
  matching: number;
  rows: { what: string; predicted: number; actual: number }[];
  findings: { weight: string; finding: string }[];
}

export interface Answer {
  ok: boolean;
  message: string;
  texts: { title: string; text: string }[];
  saved: string[];
  /** a free name, where the one asked for is taken; else "" */
  free: string;
  report: Report | null;
}

const pairs = (value: unknown): unknown[][] => (Array.isArray(value) ? (value as unknown[][]) : []);

function decodeReport(value: unknown): Report | null {
  if (!value) return null;
  const raw = wire(value);
  return {
    verdict: text(raw.verdict),
    ok: Boolean(raw.ok),
    weights: number(raw.weights),
    matching: number(raw.matching),
    rows: pairs(raw.rows).map(([what, predicted, actual]) => ({
      what: text(what),
      predicted: number(predicted),
      actual: number(actual),
    })),
    findings: pairs(raw.findings).map(([weight, finding]) => ({
      weight: text(weight),
      finding: text(finding),
    })),
  };
}

function decodeAnswer(raw: Wire): Answer {
  return {
    ok: Boolean(raw.ok),
    message: text(raw.message),
    texts: wires(raw.texts).map((t) => ({ title: text(t.title), text: text(t.text) })),
    saved: texts(raw.saved),
    free: text(raw.taken),
    report: decodeReport(raw.report),
  };
}

export class Exports {
  /** which dialog is open */
  readonly shown: Signal<ExportKind | null> = signal(null);
  readonly waiting: Signal<ExportRequest | null> = signal(null);
  /** of what is waited for; null until the kernel begins */
  readonly progress: Signal<Progress | null> = signal(null);
  readonly answer: Signal<Answer | null> = signal(null);

  constructor(private readonly requests: Requests) {}

  /** An item of the menu: a package needs a path first, all others are asked for at once and shown when they come. */
  choose(kind: ExportKind): void {
    batch(() => {
      this.answer.value = null;
      if (kind === "package") this.shown.value = kind;
      else void this.ask({ what: kind });
    });
  }

  async ask(request: ExportRequest): Promise<void> {
    batch(() => {
      this.waiting.value = request;
      this.progress.value = null;
    });
    const raw = await this.requests.ask("export", { ...request }, (progress) => {
      if (this.waiting.peek() === request) this.progress.value = progress;
    });
    if (this.waiting.peek() !== request) return;
    const answer = decodeAnswer(raw);
    // A text that could not be saved is still there to copy.
    if (!answer.ok && this.shown.peek() === request.what) answer.texts = this.answer.peek()?.texts ?? [];
    batch(() => {
      this.waiting.value = null;
      this.answer.value = answer;
      this.shown.value = request.what;
    });
  }

  /** Stop waiting; an answer that still comes is ignored. */
  cancel(): void {
    this.waiting.value = null;
  }

  close(): void {
    this.shown.value = null;
  }
}

const NAME_LENGTH = 60;

/** A file's name that says what is in it: "all-MiniLM-L6-v2-4.2bit.mlpackage". */
export function fileName(model: string, bits: number, ending: string): string {
  const plain = model.replace(/[^\p{L}\p{N}._-]+/gu, "-").replace(/^[-.]+|[-.]+$/g, "");
  const rounded = Math.round(bits * 10) / 10;
  return `${[...plain].slice(0, NAME_LENGTH).join("") || "model"}-${rounded}bit${ending}`;
}
