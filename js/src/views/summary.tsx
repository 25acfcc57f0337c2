import { useComputed } from "@preact/signals";
import type { VNode } from "preact";
import * as format from "../format";
import { measuredPlan } from "../measured";
import type { Store } from "../store";
import { ErrorFigure } from "./errorFigure";
import { Figure, type Said } from "./figure";

/** Totals of the plan beside the baseline; exact and estimated figures are told apart in words and in form. */
export function Summary({ store }: { store: Store }): VNode {
  const measured = useComputed(() => measuredPlan(store) !== null).value;
  const size = useComputed(() => sizeOf(store));
  const latency = useComputed(() => latencyOf(store));
  const memory = useComputed(() => memoryOf(store));
  const energy = useComputed(() => energyOf(store));
  const bits = useComputed(() => bitsOf(store));
  return (
    <section class="tlr-summary" aria-label="Totals">
      <Figure
        store={store}
        name="Size"
        certainty="of the package"
        test="total-size"
        said={size}
        metric="size"
        aside
        sets
      />
      <Figure
        store={store}
        name="Latency"
        certainty={measured ? "measured" : "estimated"}
        test="total-latency"
        said={latency}
        metric="latency"
        interval
      />
      <Figure
        store={store}
        name="Peak memory"
        certainty="exact by op order"
        test="total-memory"
        said={memory}
        aside
      />
      <Figure
        store={store}
        name="Energy"
        certainty="a rough guess"
        test="total-energy"
        said={energy}
        metric="energy"
        interval
      />
      <Figure
        store={store}
        name="Bits per weight"
        certainty="exact"
        test="total-bits"
        said={bits}
        metric="bits"
      />
      <ErrorFigure store={store} />
    </section>
  );
}

function sizeOf(store: Store): Said {
  const [now, was] = [store.prices.totals.value, store.prices.baseline.value];
  const against = store.baselineName.value;
  return {
    raw: now.sizeBytes,
    value: format.bytesChange(was.sizeBytes, now.sizeBytes),
    change: format.percentChange(was.sizeBytes, now.sizeBytes),
    better: now.sizeBytes < was.sizeBytes,
    words: `${format.bytes(now.sizeBytes)}, ${format.changeInWords(was.sizeBytes, now.sizeBytes, "smaller", "larger")} than ${against}`,
    below: `weight.bin ${format.bytes(now.weightFileBytes)}, exact`,
    title: [
      "Bytes of the whole package: weights with their tables and scales as stored, and the program.",
      `weight.bin: exactly ${format.exactBytes(now.weightFileBytes)}`,
      `package: ${format.exactBytes(now.sizeBytes)}, within 0.01${format.THIN}% without int8 activations; ${against}: ${format.exactBytes(was.sizeBytes)}`,
    ].join("\n"),
    part: was.sizeBytes > 0 ? now.sizeBytes / was.sizeBytes : 0,
  };
}

/** What was measured of this very plan, else the estimate. */
function latencyOf(store: Store): Said {
  const [now, was] = [store.prices.totals.value, store.prices.baseline.value];
  const program = store.program.value;
  const priced = store.costs.value;
  const measured = measuredPlan(store);
  const [before, after] = [format.milliseconds(was.latencyMs), format.milliseconds(now.latencyMs)];
  const interval = `${format.milliseconds(now.lowMs)} – ${format.milliseconds(now.highMs)}${format.THIN}ms`;
  if (measured)
    return {
      raw: measured.ms,
      value: `${format.MEASURED}${format.milliseconds(measured.ms)}${format.THIN}ms`,
      change: "",
      better: true,
      words: `${format.milliseconds(measured.ms)} milliseconds, measured on ${measured.machine}`,
      below: `on ${measured.machine} · estimated ${format.ABOUT}${after}`,
      title: `Median time of one prediction on ${measured.machine}, given to the session for this very plan.\nEstimated on ${priced.device}: ${format.ABOUT}${after} ms, 80 % interval ${interval}.`,
    };
  const elsewhere = store.computeUnit.value !== "" && store.computeUnit.value !== priced.computeUnit;
  const pricing = elsewhere || (store.device.value !== "" && store.device.value !== priced.device);
  const unit =
    program.computeUnits.find(({ key }) => key === priced.computeUnit)?.title ?? priced.computeUnit;
  return {
    raw: now.latencyMs,
    value: `${format.ABOUT}${before === after ? "" : `${before} ${format.ARROW} `}${after}${format.THIN}ms`,
    change: format.percentChange(was.latencyMs, now.latencyMs),
    better: now.latencyMs < was.latencyMs,
    words: `about ${after} milliseconds, ${format.changeInWords(was.latencyMs, now.latencyMs, "faster", "slower")} than ${store.baselineName.value}`,
    below: pricing
      ? `on ${priced.device}${elsewhere ? `, ${unit}` : ""} · ${store.presence.absence.value === "" ? "waiting for the kernel" : "not priced without the kernel"}`
      : `${interval} (80${format.THIN}%)`,
    title: `Time of one prediction: that of the ops, which the table adds up, and ${format.ABOUT}${format.milliseconds(priced.dispatchMs)} ms to dispatch the model.\nEstimated on ${priced.device}, ${unit}. 80 % interval: ${interval}.`,
  };
}

function memoryOf(store: Store): Said {
  const [now, was] = [store.prices.totals.value, store.prices.baseline.value];
  const { fixedMemoryBytes } = store.costs.value;
  return {
    raw: now.peakMemoryBytes,
    value: format.bytesChange(was.peakMemoryBytes, now.peakMemoryBytes),
    change: format.percentChange(was.peakMemoryBytes, now.peakMemoryBytes),
    better: now.peakMemoryBytes < was.peakMemoryBytes,
    words: `${format.bytes(now.peakMemoryBytes)}, ${format.changeInWords(was.peakMemoryBytes, now.peakMemoryBytes, "smaller", "larger")} than ${store.baselineName.value}`,
    below: `${format.bytes(fixedMemoryBytes)} of it activations and states`,
    title: [
      "Weights as the compute unit keeps them, and what activations and states need at the fullest moment. Exact for the order in which the program lists its ops; Core ML may reorder them.",
      `activations and states: ${format.exactBytes(fixedMemoryBytes)}`,
    ].join("\n"),
  };
}

function energyOf(store: Store): Said {
  const [now, was] = [store.prices.totals.value, store.prices.baseline.value];
  const [before, after] = [format.milliseconds(was.energyMj), format.milliseconds(now.energyMj)];
  return {
    raw: now.energyMj,
    value: `${format.ABOUT}${before === after ? "" : `${before} ${format.ARROW} `}${after}${format.THIN}mJ`,
    change: before === after ? "" : format.percentChange(was.energyMj, now.energyMj),
    better: now.energyMj < was.energyMj,
    words: `about ${after} millijoules, ${format.changeInWords(was.energyMj, now.energyMj, "less", "more")} than ${store.baselineName.value}`,
    below: `${format.milliseconds(now.lowMj)} – ${format.milliseconds(now.highMj)}${format.THIN}mJ`,
    title: `Energy of one prediction, from published energies of FLOPs and bytes and a few measured powers. Known to a factor of ${store.costs.value.energyFactor}.`,
  };
}

function bitsOf(store: Store): Said {
  const [now, was] = [store.prices.totals.value, store.prices.baseline.value];
  const [before, after] = [format.bits(was.bitsPerWeight), format.bits(now.bitsPerWeight)];
  return {
    raw: now.bitsPerWeight,
    value: before === after ? after : `${before} ${format.ARROW} ${after}`,
    change: "",
    better: true,
    words: `${after} bits per weight`,
    below: format.plural(store.program.value.weights.count, "weight"),
    title: "Stored bits of all weights, tables and scales included, over the number of their elements.",
  };
}
