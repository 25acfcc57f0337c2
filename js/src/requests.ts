/** What the browser asks Python for, one answer to each request. */

import { number, text, type Wire, wire } from "./protocol";

export const randomId = (): string =>
  Array.from(crypto.getRandomValues(new Uint32Array(2)), (n) => n.toString(36)).join("");

export interface Progress {
  stage: string;
  /** 0 to 1 */
  done: number;
}

interface Waiting {
  request: Wire;
  answer(raw: Wire): void;
  progress(progress: Progress): void;
}

export class Requests {
  private readonly waiting = new Map<string, Waiting>();
  private refusal = "";

  /** @param send takes a request, and whether edits must reach Python before it */
  constructor(private readonly send: (request: Wire, afterEdits: boolean) => void) {}

  /**
   * Ask; resolves with what Python answers: at least `ok`, and a `message` where it is false.
   *
   * @param action a key of `Session._answer`'s table
   * @param fields what that action takes
   */
  ask(action: string, fields: Wire, progress: (progress: Progress) => void = () => undefined): Promise<Wire> {
    return this.request({ ...fields, action }, true, progress);
  }

  /** The same for what no edit changes: a gesture that is running goes on. */
  look(action: string, fields: Wire): Promise<Wire> {
    return this.request({ ...fields, action }, false, () => undefined);
  }

  /** Python will never answer: say why to all who wait, and to those who ask from now on. "" takes that back. */
  refuse(why: string): void {
    this.refusal = why;
    if (why === "") return;
    for (const { answer } of this.waiting.values()) answer({ ok: false, message: why });
    this.waiting.clear();
  }

  private request(fields: Wire, afterEdits: boolean, progress: Waiting["progress"]): Promise<Wire> {
    if (this.refusal) return Promise.resolve({ ok: false, message: this.refusal });
    const id = randomId();
    const request = { ...fields, id };
    // While the kernel is busy the last of several requests replaces the others, so it names them.
    const earlier = Array.from(this.waiting.values(), (other) => other.request);
    return new Promise((answer) => {
      this.waiting.set(id, { request, answer, progress });
      this.send(earlier.length > 0 ? { ...request, earlier } : request, afterEdits);
    });
  }

  told(value: unknown): void {
    const raw = wire(value);
    this.waiting.get(text(raw.id))?.progress({ stage: text(raw.stage), done: number(raw.done) });
  }

  receive(value: unknown): void {
    const raw = wire(value);
    const id = text(raw.id);
    this.waiting.get(id)?.answer(raw);
    this.waiting.delete(id);
  }
}
