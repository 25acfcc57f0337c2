import type { VNode } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { type Distribution, failed, type Levels } from "../details";
import * as format from "../format";
import type { Store } from "../store";

/** Height of the drawing in its own units; it is stretched to the room there is. */
const TALL = 100;
/** Bars end here, so that the lines stand out above them. */
const TOP = 16;
/** No bar that holds anything is lower. */
const LEAST = 1.5;
/** More lines than this are drawn thinner. */
const MANY_LINES = 40;
/** Values that a screen reader is told one by one. */
const MOST_READ = 16;

/** How the values of a weight of the op are distributed, with the palette or the grid of its scheme over it. */
export function Distributions({ store, op }: { store: Store; op: number }): VNode | null {
  const { name, elements } = store.program.value.weights;
  const weights = Array.from(store.weightsOf([op]));
  const largest = weights.reduce((a, b) => (elements[b]! > elements[a]! ? b : a), weights[0] ?? -1);
  const [chosen, choose] = useState(largest);
  const weight = weights.includes(chosen) ? chosen : largest;
  if (weight < 0) return null;
  return (
    <section class="tlr-details-part" aria-label="Values">
      {weights.length > 1 && (
        <select
          class="tlr-select is-button tlr-details-choice"
          aria-label="Weight"
          value={weight}
          onChange={(e) => choose(Number(e.currentTarget.value))}
        >
          {weights.map((w) => (
            <option key={w} value={w}>
              {name[w]}
            </option>
          ))}
        </select>
      )}
      <Values key={weight} store={store} weight={weight} />
    </section>
  );
}

function Values({ store, weight }: { store: Store; weight: number }): VNode {
  const { details } = store;
  const costs = store.costs.value;
  const schemes = costs.schemes.length;
  const scheme = store.edits.history.value.scheme[weight]!;
  const distribution = details.weight(weight, schemes);
  const levels = details.levels(weight, scheme);
  useEffect(() => {
    details.wantWeight(weight, schemes);
    details.wantLevels(weight, scheme);
  });
  // Until the lines of a new scheme come, those of the last one stay, greyed.
  const last = useRef<Levels | null>(null);
  if (levels && !failed(levels)) last.current = levels;
  if (distribution && failed(distribution)) return <p class="tlr-muted">{distribution.message}</p>;
  if (!distribution) return <p class="tlr-muted tlr-details-wait">Values: waiting for the kernel</p>;
  const failure = levels && failed(levels) ? levels.message : "";
  const label = costs.schemes[scheme]?.label ?? "";
  return (
    <Picture
      name={store.program.value.weights.name[weight]!}
      distribution={distribution}
      levels={failure ? null : last.current}
      stale={!levels}
      what={
        failure ||
        (levels ? saying(label, levels as Levels, distribution) : `${label}: waiting for the kernel`)
      }
    />
  );
}

/** What the lines are: "4-bit palettize: 16 values, of output channels 0–15, which is group 1 of 24". */
function saying(label: string, levels: Levels, { zeros }: Distribution): string {
  const { values, groups, group, place } = levels;
  const said = [label];
  const noun = levels.kind === "palette" ? "value" : "level";
  if (values.length > 0) said.push(format.plural(values.length, noun));
  if (groups > 1) said.push(`${place}, group ${format.grouped(group + 1)} of ${format.grouped(groups)}`);
  const share = Number.isNaN(levels.zeros) ? zeros : levels.zeros;
  if (share > 0.005) said.push(`${format.share(share, 1)} zeros`);
  return said.join(" · ");
}

interface PictureProps {
  name: string;
  distribution: Distribution;
  levels: Levels | null;
  /** whether the levels are of another scheme than the one there is now */
  stale: boolean;
  what: string;
}

function Picture({ name, distribution, levels, stale, what }: PictureProps): VNode {
  const { counts, min, max, mean, std, notFinite } = distribution;
  const values = levels?.values ?? [];
  const total = counts.reduce((a, b) => a + b, 0);
  const moments = `mean ${format.digits(mean)}, standard deviation ${format.digits(std)}`;
  const label = [
    `${format.grouped(total)} values of ${name} from ${format.digits(min)} to ${format.digits(max)}, ${moments}`,
    what,
    !stale && values.length > 0 && values.length <= MOST_READ
      ? values.map((v) => format.digits(v)).join(", ")
      : "",
    notFinite > 0 ? `${format.plural(notFinite, "value")} infinite or not a number` : "",
  ];
  const span = max > min ? max - min : 1;
  return (
    <figure class="tlr-values">
      <svg
        role="img"
        aria-label={label.filter((s) => s !== "").join(". ")}
        viewBox={`0 0 ${counts.length} ${TALL}`}
        preserveAspectRatio="none"
      >
        <path class="tlr-values-bars" d={bars(counts)} />
        <path
          class={`tlr-values-lines${stale ? " is-stale" : ""}${values.length > MANY_LINES ? " is-many" : ""}`}
          d={values.map((v) => `M${round(((v - min) / span) * counts.length)},0V${TALL}`).join("")}
        />
      </svg>
      <figcaption class={`tlr-values-axis${stale ? " is-stale" : ""}`}>
        <span>{format.digits(min)}</span>
        <span
          class="tlr-ellipsis"
          title={`${what}\nBars: how many of the values lie there. Lines: what they can be stored as. Both exact; of k-means palettes, the tables that compress() writes.\n${moments}${notFinite > 0 ? `\n${label.at(-1)}` : ""}`}
        >
          {what}
        </span>
        <span>{format.digits(max)}</span>
      </figcaption>
    </figure>
  );
}

const round = (value: number): number => Math.round(value * 100) / 100;

function bars(counts: readonly number[]): string {
  const most = counts.reduce((a, b) => Math.max(a, b), 1);
  let path = "";
  counts.forEach((count, i) => {
    if (count === 0) return;
    const top = TALL - Math.max(LEAST, (count / most) * (TALL - TOP));
    path += `M${i + 0.06},${TALL}V${round(top)}H${i + 0.94}V${TALL}Z`;
  });
  return path;
}
