/** Which parts of a name stay when there is no room for all of it. */

/** Text in pieces, and whether each stays whole; of the others one gives way first, and wholly. */
export type Parts = readonly (readonly [text: string, stays: boolean])[];

/** The end stays: that is where names differ. */
export function lastCharacters(text: string, count: number): Parts {
  let cut = Math.max(0, text.length - count);
  // Not between the halves of one character.
  if (/[\udc00-\udfff]/.test(text[cut] ?? "")) cut++;
  return pieces([text.slice(0, cut), false], [text.slice(cut), true]);
}

/** What coremltools appends to the name of an op that reads another dtype than it did in the module, once or more. */
const CASTS = /(_cast_(fp|u?int)\d+)+$/;

/** Of an op's name, in three parts, the last one gives way first: the casts; then what is before the number at the end. */
export function partsOfName(name: string): Parts {
  const stem = name.replace(CASTS, "");
  const end = lastCharacters(stem, /_\d+$/.exec(stem)?.[0].length ?? 10).at(-1)?.[0] ?? "";
  return [
    [stem.slice(0, stem.length - end.length), false],
    [end, true],
    [name.slice(stem.length), false],
  ];
}

/** Of a last name that is longer the end stays. */
const LONG_NAME = 16;
const LONG_END = 10;

/**
 * Of a module's path its last name stays, and the number of the layer. "encoder" of encoder.5.attention.query gives way
 * first and leaves nothing, then "attention" does: no more than one piece is cut at a time.
 */
export function partsOfPath(path: string): Parts {
  const names = path.split(".");
  const last = names.length - 1;
  const number = names.findLastIndex((name, i) => i > 0 && i < last && /^\d+$/.test(name));
  const rest = names.slice(number + 1).join(".");
  const end = names[last]!.length > LONG_NAME ? LONG_END : names[last]!.length + (last > number + 1 ? 1 : 0);
  if (number < 0) return lastCharacters(rest, end);
  return pieces(
    [names.slice(0, number).join("."), false],
    [`.${names[number]}.`, true],
    ...lastCharacters(rest, end),
  );
}

const pieces = (...parts: (readonly [string, boolean])[]): Parts => parts.filter(([text]) => text !== "");
