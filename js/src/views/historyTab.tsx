import type { VNode } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { type KeptPlan, samePlan } from "../baseline";
import { stepsOf } from "../charts/steps";
import * as format from "../format";
import type { Store } from "../store";
import { WordForm } from "./wordForm";

/** The steps that led here, what each came to, and plans kept under a name. A press walks there. */
export function HistoryTab({ store }: { store: Store }): VNode {
  const history = store.edits.history.value;
  const steps = stepsOf(store.costs.value, history);
  const list = useRef<HTMLDivElement>(null);
  const { cursor } = history;
  useLayoutEffect(() => {
    const [box, here] = [list.current!, list.current!.querySelector<HTMLElement>("[aria-current]")!];
    const [left, right] = [here.offsetLeft, here.offsetLeft + here.offsetWidth];
    if (right > box.scrollLeft + box.clientWidth || left < box.scrollLeft)
      box.scrollLeft = right - box.clientWidth + 24;
  }, [cursor, steps.length]);
  return (
    <div class="tlr-history">
      <div
        ref={list}
        class="tlr-steps"
        role="group"
        aria-label="Steps"
        onKeyDown={(e) => {
          if (e.key !== "ArrowRight" && e.key !== "ArrowLeft") return;
          e.preventDefault();
          e.stopPropagation();
          const all = [...e.currentTarget.querySelectorAll("button")];
          const at = all.indexOf(e.target as HTMLButtonElement);
          all[at + (e.key === "ArrowRight" ? 1 : -1)]?.focus({ preventScroll: false });
        }}
      >
        {steps.map(({ cursor: at, label, totals }, i) => {
          const before = steps[i - 1]?.totals;
          const change = before ? format.percentChange(before.sizeBytes, totals.sizeBytes) : "";
          const state = at === cursor ? "is-current" : at > cursor ? "is-undone" : "";
          return (
            <button
              key={at}
              type="button"
              class={`tlr-step ${state}`}
              aria-current={at === cursor ? "step" : undefined}
              title={`${at === 0 ? "Where the session began" : label}\n${format.exactBytes(totals.sizeBytes)} · ${format.ABOUT}${format.milliseconds(totals.latencyMs)} ms · ${format.bits(totals.bitsPerWeight)} bits per weight`}
              onClick={() => store.edits.goTo(at)}
            >
              <StepLabel label={at === 0 ? "Start" : label} />
              <span class="tlr-step-size">
                {format.bytes(totals.sizeBytes)}{" "}
                <span class="tlr-muted">
                  {`${change} · ${format.ABOUT}${format.milliseconds(totals.latencyMs)}${format.THIN}ms`}
                </span>
                <span class="tlr-sr">{at > cursor ? ", undone" : ""}</span>
              </span>
            </button>
          );
        })}
      </div>
      <Snapshots store={store} />
    </div>
  );
}

/** "name: what was done" on two lines, each cut by itself. */
function StepLabel({ label }: { label: string }): VNode {
  const at = label.lastIndexOf(": ");
  return (
    <span class="tlr-step-label">
      <bdi class="tlr-ellipsis">{at < 0 ? label : label.slice(0, at)}</bdi>
      {at >= 0 && <span class="tlr-muted tlr-ellipsis">{label.slice(at + 2)}</span>}
    </span>
  );
}

function Snapshots({ store }: { store: Store }): VNode {
  const [name, setName] = useState("");
  const [failed, setFailed] = useState("");
  const kept = store.snapshots.value;
  const now = store.edits.history.value;
  const keep = async (word: string): Promise<void> => {
    setFailed("");
    const answer = await store.requests.ask("snapshot", { name: word });
    if (answer.ok) setName("");
    else setFailed(String(answer.message));
  };
  const take = (plan: KeptPlan): void => store.edits.take(plan, `snapshot ${plan.name}`);
  return (
    <div class="tlr-snapshots">
      <WordForm
        label="Name of the snapshot"
        placeholder="Keep this plan as…"
        text={name}
        change={setName}
        action="Keep"
        submit={(word) => void keep(word)}
      />
      {failed && (
        <span class="tlr-error" role="alert">
          {failed}
        </span>
      )}
      <ul aria-label="Snapshots">
        {kept.map((plan) => (
          <li key={plan.name}>
            <button
              type="button"
              class="tlr-snapshot tlr-ellipsis"
              aria-pressed={samePlan(plan, now)}
              title={`Take the plan that is kept as ${plan.name}`}
              onClick={() => take(plan)}
            >
              <bdi>{plan.name}</bdi>
            </button>
            <button
              type="button"
              class="tlr-snapshot"
              aria-label={`Forget ${plan.name}`}
              title={`Forget ${plan.name}`}
              onClick={() => void store.requests.ask("snapshot", { name: plan.name, forget: true })}
            >
              ✕
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}
