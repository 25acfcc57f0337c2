/** What blocks.py finds of a made-up program: its module tree over ops, and which modules are built alike. */

import type { Wire } from "../src/protocol";
import { view } from "./synthetic";

/** `described` says of each op what it has to have in common with another; edges are taken to follow from that. */
export function treeWire(parents: number[], opModule: number[], described: string[]): [Wire, Wire] {
  const own: number[][] = parents.map(() => []);
  opModule.forEach((m, op) => {
    own[m]!.push(op);
  });
  const first = own.map((ops) => ops[0] ?? Number.POSITIVE_INFINITY);
  const children: number[][] = parents.map(() => []);
  for (let m = parents.length - 1; m > 0; m--) {
    first[parents[m]!] = Math.min(first[parents[m]!]!, first[m]!);
    if (first[m]! < opModule.length) children[parents[m]!]!.push(m);
  }
  const [start, stop] = [parents.map(() => 0), parents.map(() => 0)];
  const order: number[] = [];
  const alike = parents.map(() => -1);
  const ids = new Map<string, number>();
  const visit = (m: number): string => {
    start[m] = order.length;
    order.push(...own[m]!);
    const inside = children[m]!.sort((a, b) => first[a]! - first[b]!).map(visit);
    stop[m] = order.length;
    if (start[m] === stop[m]) return "";
    const key = `${own[m]!.map((op) => described[op]).join()}(${inside.join()})`;
    if (!ids.has(key)) ids.set(key, ids.size);
    alike[m] = ids.get(key)!;
    return String(alike[m]);
  };
  visit(0);
  const packed = (values: number[]): DataView => view(Int32Array.from(values));
  return [
    { alike: packed(alike), start: packed(start), stop: packed(stop) },
    { leaf: packed(opModule), order: packed(order) },
  ];
}
