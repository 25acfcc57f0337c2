/**
 * What int8 activations add to the program text: `Roundings.growth` of roundings.py, where it is explained; held to it by
 * tests/fixtures/estimates.json.
 */

/** Rows of tensors are those that some op could round, rows of reads the places where these are read. */
export interface Roundings {
  quantizeBytes: Float64Array;
  dequantizeBytes: Float64Array;
  /** per tensor, where its reads start; one more than tensors */
  readsStart: Int32Array;
  /** per read: the op, whether it rounds once its activations are int8, and by how much it grows then */
  reader: Int32Array;
  rounds: Uint8Array;
  renamingBytes: Float64Array;
  /** ops whose activations may be int8, the tensor that each writes, and how many it rounds */
  writers: Int32Array;
  written: Int32Array;
  operands: Uint8Array;
  /** activation functions, and the tensor that each writes */
  functions: Int32Array;
  applied: Int32Array;
  /** per sum: its two reads, and the tensor that it or the relu behind it writes */
  sums: Int32Array;
}

/** From the tables of wire.py: what names rows of other tables there are steps from one to the next. */
export function unpackRoundings(
  tensors: Int32Array,
  reads: Int32Array,
  writers: Int32Array,
  functions: Int32Array,
  sums: Int32Array,
): Roundings {
  const reader = summed(column(reads, 3, 0));
  const rounds = Uint8Array.from(column(reads, 3, 1));
  const rounded = new Map<number, number>();
  reader.forEach((op, r) => {
    if (rounds[r]) rounded.set(op, (rounded.get(op) ?? 0) + 1);
  });
  const writing = summed(column(writers, 2, 0));
  const places = [0, 1, 2].map((at) => summed(column(sums, 3, at)));
  return {
    quantizeBytes: Float64Array.from(column(tensors, 3, 0)),
    dequantizeBytes: Float64Array.from(column(tensors, 3, 1)),
    readsStart: summed(Int32Array.of(0, ...column(tensors, 3, 2))),
    reader,
    rounds,
    renamingBytes: Float64Array.from(column(reads, 3, 2)),
    writers: writing,
    written: summed(column(writers, 2, 1)),
    operands: Uint8Array.from(writing, (op) => rounded.get(op) ?? 0),
    functions: summed(column(functions, 2, 0)),
    applied: summed(column(functions, 2, 1)),
    sums: sums.map((_, at) => places[at % 3]![Math.floor(at / 3)]!),
  };
}

function column(table: Int32Array, width: number, at: number): Int32Array {
  return table.filter((_, entry) => entry % width === at);
}

function summed(steps: Int32Array): Int32Array {
  let sum = 0;
  return steps.map((step) => {
    sum += step;
    return sum;
  });
}

export function roundingsGrowth(roundings: Roundings, int8: Uint8Array): number {
  const { quantizeBytes, dequantizeBytes, readsStart, reader, rounds, renamingBytes } = roundings;
  const tensors = quantizeBytes.length;
  const behind = roundedBehind(roundings, int8);
  const through = new Uint8Array(reader.length);
  const tensorOf = new Int32Array(reader.length);
  const closed = new Uint8Array(tensors);
  let bytes = 0;
  for (let t = 0; t < tensors; t++) {
    let rounded = behind[t]!;
    for (let r = readsStart[t]!; r < readsStart[t + 1]!; r++) {
      const wanted = int8[reader[r]!]! & rounds[r]!;
      through[r] = wanted | behind[t]!;
      tensorOf[r] = t;
      rounded |= wanted;
      if (through[r]) bytes += renamingBytes[r]!;
    }
    if (rounded) bytes += quantizeBytes[t]!;
    closed[t] = readsStart[t + 1]! - readsStart[t]! === 1 ? rounded : behind[t]!;
  }
  return bytes + restoredBytes(roundings, through, tensorOf, closed, dequantizeBytes);
}

/** Bytes of all `dequantize`: one a tensor, but sums whose result is rounded have their own. */
function restoredBytes(
  { sums }: Roundings,
  through: Uint8Array,
  tensorOf: Int32Array,
  closed: Uint8Array,
  dequantizeBytes: Float64Array,
): number {
  const plain = through.slice();
  const second = new Uint8Array(closed.length);
  let bytes = 0;
  for (let s = 0; s < sums.length; s += 3) {
    const x = sums[s]!;
    const y = sums[s + 1]!;
    if (!through[x] || !through[y] || !closed[sums[s + 2]!]) continue;
    plain[x] = plain[y] = 0;
    if (tensorOf[x] !== tensorOf[y]) bytes += dequantizeBytes[tensorOf[x]!]!;
    second[tensorOf[y]!] = 1;
  }
  const restored = new Uint8Array(closed.length);
  for (let r = 0; r < plain.length; r++) if (plain[r]) restored[tensorOf[r]!] = 1;
  for (let t = 0; t < closed.length; t++) bytes += (restored[t]! + second[t]!) * dequantizeBytes[t]!;
  return bytes;
}

/** Which tensors are rounded where they are written, so that all that read them read the rounded one. */
function roundedBehind(roundings: Roundings, int8: Uint8Array): Uint8Array {
  const { readsStart, reader, rounds, writers, written, operands, functions, applied } = roundings;
  const behind = new Uint8Array(roundings.quantizeBytes.length);
  const resultOf = new Map<number, number>();
  for (let f = 0; f < functions.length; f++) resultOf.set(functions[f]!, applied[f]!);
  for (let w = 0; w < writers.length; w++) {
    if (!int8[writers[w]!]) continue;
    const tensor = written[w]!;
    const readers = reader.subarray(readsStart[tensor]!, readsStart[tensor + 1]!);
    const floats = readers.filter((op) => !int8[op]);
    for (let visit = 0; visit < operands[w]!; visit++) {
      const result = (visit < floats.length ? resultOf.get(floats[visit]!) : undefined) ?? tensor;
      behind[result] = 1;
      const own = readsStart[result]!;
      const once = readsStart[result + 1]! - own === 1;
      if (result === tensor || (once && int8[reader[own]!]! & rounds[own]!) || readers.length === 1) break;
    }
  }
  return behind;
}
