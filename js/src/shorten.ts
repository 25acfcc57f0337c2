/** Which parts of a name stay when there is no room for all of it. */

/** Text in pieces, and whether each stays whole; the first of the others gives way first. */
export type Parts = readonly (readonly [text: string, stays: boolean])[];

/** The end stays: that is where names differ. */
export function lastCharacters(text: string, count: number): Parts {
  let cut = Math.max(0, text.length - count);
  // Not between the halves of one character.
  if (/[\udc00-\udfff]/.test(text[cut] ?? "")) cut++;
  return pieces([text.slice(0, cut), false], [text.slice(cut), true]);
}

/** A last name that is longer gives way, too. */
const LONG_NAME = 16;

/** Of a module's path its last name stays, and the number of the layer: "encoder" and "attention" of encoder.5.attention.query give way. */
export function partsOfPath(path: string): Parts {
  const names = path.split(".");
  const last = names.length - 1;
  const number = names.findLastIndex((name, i) => i > 0 && i < last && /^\d+$/.test(name));
  const end = `${last > 0 ? "." : ""}${names[last]}`;
  const tail = [end, end.length <= LONG_NAME] as const;
  if (number < 0) return pieces([names.slice(0, last).join("."), false], tail);
  const inside = names.slice(number + 1, last).join(".");
  return pieces(
    [names.slice(0, number).join("."), false],
    [`.${names[number]}${inside === "" ? "" : "."}`, true],
    [inside, false],
    tail,
  );
}

const pieces = (...parts: (readonly [string, boolean])[]): Parts => parts.filter(([text]) => text !== "");
