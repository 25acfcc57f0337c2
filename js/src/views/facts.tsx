import type { ComponentChildren, VNode } from "preact";
import { useEffect } from "preact/hooks";
import { failed, type OpFacts, type Tensor } from "../details";
import { BOUNDS, partsOf } from "../estimate";
import * as format from "../format";
import { measuredOp, measuredUnit } from "../measured";
import { type Noise, noiseCertainty, noiseText, opNoise, weightsNoise } from "../sqnr";
import type { Store } from "../store";

interface FactProps {
  name: string;
  title?: string;
  wide?: boolean;
  children: ComponentChildren;
}

export function Fact({ name, title, wide, children }: FactProps): VNode {
  return (
    <div class={`tlr-fact${wide ? " is-wide" : ""}`} title={title}>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

/** What is looked for first: it stands above all else, so that no scrolling is needed to see it. */
export function KeyFacts({ store, op }: { store: Store; op: number }): VNode {
  store.prices.calm.value;
  store.prices.baseline.value;
  const costs = store.costs.value;
  const { base, live } = store.prices;
  const weights = Array.from(store.weightsOf([op]));
  const total = (bytes: ArrayLike<number>): number => weights.reduce((sum, w) => sum + bytes[w]!, 0);
  const [before, after] = [total(base.weightBytes), total(live.weightBytes)];
  const noise = opNoise(costs, store.edits.history.peek().scheme, op);
  const shapes = weights.map((w) => store.program.value.weights.shape[w]).join(", ");
  const was = `against ${store.baselineName.value}`;
  return (
    <section class="tlr-details-part" aria-label="Key numbers">
      <dl class="tlr-key-facts">
        {weights.length > 0 && (
          <>
            <Fact
              name="size"
              title={`Of its weights: ${format.exactBytes(after)}, exact; ${was}: ${format.exactBytes(before)}`}
            >
              {format.bytesChange(before, after)}
            </Fact>
            <ErrorFact store={store} noise={noise} of="its weights" />
          </>
        )}
        <Latency store={store} op={op} />
        <Fact name={weights.length > 0 ? "shape" : "output"} title="Exact.">
          {weights.length > 0 ? shapes : store.program.value.ops.output[op]}
        </Fact>
      </dl>
    </section>
  );
}

/** Signal to noise of weights together, with how it is known. */
export function ErrorFact({ store, noise, of }: { store: Store; noise: Noise | null; of: string }): VNode {
  const unknown = store.unknownError.value;
  const certainty = noise ? noiseCertainty(noise, unknown) : "";
  return (
    <Fact name="error" title={`Signal to noise of ${of} together: more is better. ${certainty}`}>
      {noiseText(noise, unknown) || "–"}
    </Fact>
  );
}

function Latency({ store, op }: { store: Store; op: number }): VNode {
  store.prices.totals.value;
  store.prices.baseline.value;
  const costs = store.costs.value;
  const now = store.prices.live.opMs[op]!;
  const [was, is] = [format.milliseconds(store.prices.base.opMs[op]!), format.milliseconds(now)];
  const measured = measuredOp(store, op);
  const estimate = `${format.ABOUT}${was === is ? "" : `${was} ${format.ARROW} `}${is}${format.THIN}ms`;
  const span = costs.interval.map((factor) => format.milliseconds(now * factor)).join(" – ");
  return (
    <>
      <Fact
        name="latency"
        title={`Estimated on ${costs.device}: ${estimate}, 80 % interval ${span} ms${measured ? `\nmeasured on ${measured.machine}` : ""}`}
      >
        {measured ? `${format.MEASURED}${format.milliseconds(measured.ms)}${format.THIN}ms` : estimate}
      </Fact>
      <Fact name="bound by" title="What the time is spent on, estimated.">
        {BOUNDS[store.prices.live.bound[op]!]}
      </Fact>
    </>
  );
}

/** Every other number that is known of an op, each with how it is known. */
export function Facts({ store, op }: { store: Store; op: number }): VNode {
  const { ops, modules } = store.program.value;
  const answer = store.details.op(op);
  const known = answer && !failed(answer) ? answer : null;
  const module = ops.module[op]!;
  return (
    <section class="tlr-details-part" aria-label="Numbers">
      <dl class="tlr-facts-list">
        <Fact name="module" wide title={modules.path[module]}>
          <bdi>{modules.path[module] || "model"}</bdi>
          {modules.className[module] && (
            <span class="tlr-muted">
              {" "}
              <bdi>{modules.className[module]!.split(".").at(-1)}</bdi>
            </span>
          )}
        </Fact>
        {known && known.fused.length > 0 && (
          <Fact name="fused with" wide title="Other modules whose code became part of this op.">
            <bdi>{known.fused.map((path) => path || "model").join(", ")}</bdi>
          </Fact>
        )}
        <Tensors store={store} op={op} known={known} />
        <Fact name="FLOPs" title={`${format.grouped(ops.flops[op]!)}, exact: counted from shapes`}>
          {format.flops(ops.flops[op]!)}
        </Fact>
        <Time store={store} op={op} />
        <Place store={store} op={op} />
        <Int8 store={store} op={op} known={known} />
      </dl>
      <Weights store={store} op={op} />
    </section>
  );
}

function Tensors({ store, op, known }: { store: Store; op: number; known: OpFacts | null }): VNode {
  const { ops } = store.program.value;
  if (!known)
    return (
      <>
        <Fact name="output">{ops.output[op]}</Fact>
        <Fact name="in and out" title={`${format.exactBytes(ops.activationBytes[op]!)}, exact`}>
          {format.bytes(ops.activationBytes[op]!)}
        </Fact>
      </>
    );
  const read = known.inputs.filter((t) => t.weight < 0);
  const side = (name: string, tensors: readonly Tensor[]): VNode => {
    const bytes = tensors.reduce((sum, t) => sum + t.bytes, 0);
    return (
      <Fact
        name={name}
        wide
        title={`${tensors.map((t) => [t.parameter, t.shape, t.dtype, t.name].filter(Boolean).join(" ")).join("\n")}\n${format.exactBytes(bytes)}, exact`}
      >
        {tensors.map((t) => `${t.shape} ${t.dtype}`).join(", ") || "nothing"}
        <span class="tlr-muted">{` · ${format.bytes(bytes)}`}</span>
      </Fact>
    );
  };
  return (
    <>
      {side("reads", read)}
      {side("writes", known.outputs)}
    </>
  );
}

function Time({ store, op }: { store: Store; op: number }): VNode {
  store.prices.totals.value;
  const costs = store.costs.value;
  const { scheme, int8 } = store.edits.history.value;
  const parts = partsOf(costs, scheme, op, int8);
  const rows: [string, number, string][] = [
    ["launch", parts.launch, "Overhead of starting the op, and of handing over what another unit computed."],
    ["compute", parts.products, "Arithmetic."],
    ["activations", parts.traffic, "Reading inputs and writing outputs, after the arithmetic."],
    [
      "weights",
      parts.weights,
      "Bringing in the weights as they are stored, beside arithmetic and activations.",
    ],
  ];
  const most = Math.max(...rows.map(([, ms]) => ms), Number.MIN_VALUE);
  return (
    <>
      {rows.map(([name, ms, title]) => (
        <Fact key={name} name={name} title={`${title} Estimated.`}>
          <span class="tlr-part-bar">
            <span style={{ transform: `scaleX(${ms / most})` }} />
          </span>
          {`${format.ABOUT}${format.milliseconds(ms)}${format.THIN}ms`}
        </Fact>
      ))}
    </>
  );
}

function Place({ store, op }: { store: Store; op: number }): VNode {
  const { units, unit, unitReason, unitReasons } = store.costs.value;
  const expected = units[unit[op]!] ?? "";
  const measured = measuredUnit(store, op);
  const reason = unitReasons[unitReason[op]!] ?? "";
  return (
    <Fact
      name="runs on"
      wide={reason !== ""}
      title={
        measured
          ? `Measured: where Core ML prefers to run it. Expected: ${expected}`
          : "Expected by rules that were observed."
      }
    >
      {measured ? format.MEASURED + measured : `${format.ABOUT}${expected}`}
      {reason && <span class="tlr-muted">{` · ${reason}`}</span>}
    </Fact>
  );
}

function Int8({ store, op, known }: { store: Store; op: number; known: OpFacts | null }): VNode {
  const can = store.program.value.ops.canReadInt8[op] === 1;
  const on = store.edits.history.value.int8[op] === 1;
  const reason = can ? "" : (known?.int8 ?? "");
  return (
    <Fact name="int8" wide={reason !== ""} title="Activations of 8 bits: whether the op reads them.">
      {can ? (on ? "activations on" : "activations off") : "not possible"}
      {reason && <span class="tlr-muted">{` · ${reason}`}</span>}
    </Fact>
  );
}

/** Of each weight: its scheme, exact bytes with the overhead of tables and scales, effective bits, error. */
function Weights({ store, op }: { store: Store; op: number }): VNode | null {
  const program = store.program.value;
  const costs = store.costs.value;
  const { scheme } = store.edits.history.value;
  const unknown = store.unknownError.value;
  const weights = Array.from(store.weightsOf([op]));
  useEffect(() => {
    for (const w of weights) store.details.wantWeight(w, costs.schemes.length);
  });
  if (weights.length === 0) return null;
  return (
    <table class="tlr-details-weights">
      <thead>
        <tr>
          {["weight", "scheme", "bytes", "overhead", "bits", "error"].map((title) => (
            <th key={title} scope="col">
              {title}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {weights.map((w) => {
          const s = scheme[w]!;
          const at = w * costs.schemes.length + s;
          const bytes = costs.payloadBytes[at]!;
          const answer = store.details.weight(w, costs.schemes.length);
          const found = answer && !failed(answer) ? answer : null;
          const overhead = found?.overheadBytes[s];
          const tables = found?.tables[s] ?? 0;
          const noise = weightsNoise(costs, scheme, [w])!;
          const about = [
            program.weights.name[w],
            `${program.weights.shape[w]} ${found?.dtype ?? ""}`,
            found?.parameter && `torch parameter ${found.parameter}`,
            found?.foldedFrom && `computed from ${found.foldedFrom}`,
          ];
          return (
            <tr key={w}>
              <th scope="row" title={about.filter(Boolean).join("\n")}>
                <bdi>{program.weights.shape[w]}</bdi>
              </th>
              <td class="tlr-ellipsis" title={costs.schemes[s]!.label}>
                {costs.schemes[s]!.label}
              </td>
              <td title={`${format.exactBytes(bytes)}, exact; without padding`}>{format.grouped(bytes)}</td>
              <td
                title={
                  overhead === undefined
                    ? "waiting for the kernel"
                    : `${format.exactBytes(overhead)} of tables, scales, masks and zero points, exact${tables > 0 ? `; ${format.plural(tables, "table")}` : ""}`
                }
              >
                {overhead === undefined ? "…" : format.grouped(overhead)}
              </td>
              <td title="Stored bits of an element, tables and scales included; exact.">
                {format.bits((8 * bytes) / costs.elements[w]!)}
              </td>
              <td title={`Signal to noise of the values: more is better. ${noiseCertainty(noise, unknown)}`}>
                {noiseText(noise, { ...unknown, short: store.findsErrors.value ? "…" : "–" })}
              </td>
            </tr>
          );
        })}
      </tbody>
    </table>
  );
}
