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
  answer(raw: Wire): void;
  progress(progress: Progress): void;
}

export class Requests {
  private readonly waiting = new Map<string, Waiting>();

  constructor(private readonly send: (request: Wire) => void) {}

  /**
   * Ask; resolves with what Python answers: at least `ok`, and a `message` where it is false.
   *
   * @param action a key of `Session._on_request`'s table
   * @param fields what that action takes
   */
  ask(action: string, fields: Wire, progress: (progress: Progress) => void = () => undefined): Promise<Wire> {
    const id = randomId();
    return new Promise((answer) => {
      this.waiting.set(id, { answer, progress });
      this.send({ ...fields, id, action });
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
