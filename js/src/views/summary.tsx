import type { VNode } from "preact";
import { column } from "../columns";
import * as format from "../format";
import { measuredPlan } from "../measured";
import type { Store } from "../store";
import { ErrorFigure } from "./errorFigure";
import { Figure } from "./figure";

/** Totals of the plan beside the baseline; exact and estimated figures are told apart in words and in form. */
export function Summary({ store }: { store: Store }): VNode {
  const now = store.prices.totals.value;
  const was = store.prices.baseline.value;
  const against = store.baselineName.value;
  const program = store.program.value;
  const priced = store.costs.value;
  const elsewhere = store.computeUnit.value !== "" && store.computeUnit.value !== priced.computeUnit;
  const pricing = elsewhere || (store.device.value !== "" && store.device.value !== priced.device);
  const unit =
    program.computeUnits.find(({ key }) => key === priced.computeUnit)?.title ?? priced.computeUnit;
  const measured = measuredPlan(store);
  const differs = now.latencyMs !== was.latencyMs;
  const interval = `${format.milliseconds(now.lowMs)} – ${format.milliseconds(now.highMs)}${format.THIN}ms`;
  const [joulesBefore, joulesAfter] = [format.milliseconds(was.energyMj), format.milliseconds(now.energyMj)];
  const [before, after] = [format.milliseconds(was.latencyMs), format.milliseconds(now.latencyMs)];
  return (
    <section class="tlr-summary" aria-label="Totals">
      <Figure
        name="Size"
        certainty="of the package"
        test="total-size"
        raw={now.sizeBytes}
        value={format.bytesChange(was.sizeBytes, now.sizeBytes)}
        change={format.percentChange(was.sizeBytes, now.sizeBytes)}
        better={now.sizeBytes < was.sizeBytes}
        words={`${format.bytes(now.sizeBytes)}, ${format.changeInWords(was.sizeBytes, now.sizeBytes, "smaller", "larger")} than ${against}`}
        below={`weight.bin ${format.bytes(now.weightFileBytes)}, exact`}
        title={[
          column(program, "size_bytes", "weight_bytes", "size")?.description ??
            "Size of the whole package on disk.",
          `weight.bin: exactly ${format.exactBytes(now.weightFileBytes)}`,
          `package: ${format.exactBytes(now.sizeBytes)}, within 0.01${format.THIN}% without int8 activations; ${against}: ${format.exactBytes(was.sizeBytes)}`,
        ].join("\n")}
        part={was.sizeBytes > 0 ? now.sizeBytes / was.sizeBytes : 0}
        budget={{ store, metric: "size" }}
        aside
        sets
      />
      {measured ? (
        <Figure
          name="Latency"
          certainty="measured"
          test="total-latency"
          raw={measured.ms}
          budget={{ store, metric: "latency" }}
          interval
          value={`${format.MEASURED}${format.milliseconds(measured.ms)}${format.THIN}ms`}
          change=""
          better
          words={`${format.milliseconds(measured.ms)} milliseconds, measured on ${measured.machine}`}
          below={`on ${measured.machine} · estimated ${format.ABOUT}${after}`}
          title={`Median time of one prediction on ${measured.machine}, given to the session for this very plan.\nEstimated on ${priced.device}: ${format.ABOUT}${after} ms, 80 % interval ${interval}.`}
        />
      ) : (
        <Figure
          name="Latency"
          certainty="estimated"
          test="total-latency"
          raw={now.latencyMs}
          budget={{ store, metric: "latency" }}
          interval
          value={`${format.ABOUT}${before === after ? "" : `${before} ${format.ARROW} `}${after}${format.THIN}ms`}
          change={differs ? format.percentChange(was.latencyMs, now.latencyMs) : ""}
          better={now.latencyMs < was.latencyMs}
          words={`about ${after} milliseconds, ${format.changeInWords(was.latencyMs, now.latencyMs, "faster", "slower")} than ${against}`}
          below={
            pricing
              ? `on ${priced.device}${elsewhere ? `, ${unit}` : ""} · ${store.presence.absence.value === "" ? "waiting for the kernel" : "not priced without the kernel"}`
              : `${interval} (80${format.THIN}%)`
          }
          title={`${column(program, "latency_ms", "latency")?.description ?? "Time of one prediction."}\nEstimated on ${priced.device}, ${unit}. 80 % interval: ${interval}.`}
        />
      )}
      <Figure
        name="Peak memory"
        certainty="exact by op order"
        test="total-memory"
        raw={now.peakMemoryBytes}
        value={format.bytesChange(was.peakMemoryBytes, now.peakMemoryBytes)}
        change={format.percentChange(was.peakMemoryBytes, now.peakMemoryBytes)}
        better={now.peakMemoryBytes < was.peakMemoryBytes}
        words={`${format.bytes(now.peakMemoryBytes)}, ${format.changeInWords(was.peakMemoryBytes, now.peakMemoryBytes, "smaller", "larger")} than ${against}`}
        below={`${format.bytes(priced.fixedMemoryBytes)} of it activations and states`}
        aside
        title={[
          "Weights as the compute unit keeps them, and what activations and states need at the fullest moment. Exact for the order in which the program lists its ops; Core ML may reorder them.",
          `activations and states: ${format.exactBytes(priced.fixedMemoryBytes)}`,
        ].join("\n")}
      />
      <Figure
        name="Energy"
        certainty="a rough guess"
        test="total-energy"
        raw={now.energyMj}
        budget={{ store, metric: "energy" }}
        interval
        value={`${format.ABOUT}${joulesBefore === joulesAfter ? "" : `${joulesBefore} ${format.ARROW} `}${joulesAfter}${format.THIN}mJ`}
        change={joulesBefore === joulesAfter ? "" : format.percentChange(was.energyMj, now.energyMj)}
        better={now.energyMj < was.energyMj}
        words={`about ${joulesAfter} millijoules, ${format.changeInWords(was.energyMj, now.energyMj, "less", "more")} than ${against}`}
        below={`${format.milliseconds(now.lowMj)} – ${format.milliseconds(now.highMj)}${format.THIN}mJ`}
        title={`Energy of one prediction, from published energies of FLOPs and bytes and a few measured powers. Known to a factor of ${priced.energyFactor}.`}
      />
      <Figure
        name="Bits per weight"
        certainty="exact"
        test="total-bits"
        raw={now.bitsPerWeight}
        budget={{ store, metric: "bits" }}
        value={bitsChange(was.bitsPerWeight, now.bitsPerWeight)}
        change=""
        better
        words={`${format.bits(now.bitsPerWeight)} bits per weight`}
        below={format.plural(program.weights.count, "weight")}
        title="Stored bits of all weights, tables and scales included, over the number of their elements."
      />
      <ErrorFigure store={store} />
    </section>
  );
}

function bitsChange(before: number, after: number): string {
  const [a, b] = [format.bits(before), format.bits(after)];
  return a === b ? b : `${a} ${format.ARROW} ${b}`;
}
