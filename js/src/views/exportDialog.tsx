import type { VNode } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { type Answer, type ExportKind, fileName, type Report } from "../exports";
import * as format from "../format";
import type { Store } from "../store";
import { ProgressBar } from "./progressBar";

const TITLES: Record<ExportKind, string> = {
  python: "Python source",
  coremltools: "coremltools YAML",
  plan: "Plan",
  configs: "coremltools configs",
  torch: "torch configs",
  package: "Compressed package",
};

export function ExportDialog({ store }: { store: Store }): VNode | null {
  const kind = store.exports.shown.value;
  return kind ? <Dialog key={kind} store={store} kind={kind} /> : null;
}

function Dialog({ store, kind }: { store: Store; kind: ExportKind }): VNode {
  const { exports } = store;
  const dialog = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => {
    const root = dialog.current?.closest(".tlr");
    dialog.current?.showModal();
    dialog.current?.querySelector("input")?.select();
    return () => root?.querySelector<HTMLElement>(".is-export")?.focus({ preventScroll: true });
  }, []);
  const answer = exports.answer.value;
  const busy = exports.waiting.value !== null;
  const ending = store.program.value.exportEndings[kind];
  const done = kind === "package" && answer?.ok;
  return (
    <dialog
      ref={dialog}
      class="tlr-dialog"
      aria-label={TITLES[kind]}
      onClose={() => exports.close()}
      onKeyDown={(e) => e.stopPropagation()}
    >
      <div class="tlr-dialog-head">
        <h3>{TITLES[kind]}</h3>
        <button
          type="button"
          class="tlr-button is-icon"
          aria-label="Close"
          title={busy ? "Close; the export goes on, and this opens again when it ends" : "Close"}
          onClick={() => dialog.current?.close()}
        >
          ✕
        </button>
      </div>
      {ending === undefined && <Message answer={answer} busy={busy} />}
      {answer?.texts.map((t) => (
        <Code key={t.title} title={t.title} text={t.text} />
      ))}
      {ending !== undefined && !done && (answer?.texts.length || kind === "package") ? (
        <PathForm store={store} kind={kind} ending={ending} answer={answer} busy={busy} />
      ) : null}
      {busy && kind === "package" && <ProgressBar label="Export" progress={exports.progress.value} />}
      {ending !== undefined && <Message answer={answer} busy={busy} />}
      {!busy && answer?.report && <Verification report={answer.report} />}
    </dialog>
  );
}

function Message({ answer, busy }: { answer: Answer | null; busy: boolean }): VNode {
  const failed = answer !== null && !answer.ok;
  return (
    <p class={`tlr-dialog-message${failed ? " tlr-error" : ""}`} role={failed ? "alert" : "status"}>
      {busy ? "" : (answer?.message ?? "")}
    </p>
  );
}

interface PathFormProps {
  store: Store;
  kind: ExportKind;
  ending: string;
  answer: Answer | null;
  busy: boolean;
}

/** Where to save; a name that is taken is replaced only by a button that says so. */
function PathForm({ store, kind, ending, answer, busy }: PathFormProps): VNode {
  const [path, setPath] = useState(() =>
    fileName(store.program.peek().name, store.prices.totals.peek().bitsPerWeight, ending),
  );
  const save = (to: string, replace: boolean): void => {
    setPath(to);
    void store.exports.ask({ what: kind, path: to.trim(), replace });
  };
  const free = busy ? "" : (answer?.free ?? "");
  return (
    <form
      class="tlr-path"
      onSubmit={(e) => {
        e.preventDefault();
        save(path, false);
      }}
    >
      <label class="tlr-path-file">
        <span>Save as</span>
        <input
          type="text"
          class="tlr-search"
          aria-label="File name"
          spellcheck={false}
          value={path}
          onInput={(e) => setPath(e.currentTarget.value)}
        />
      </label>
      <button type="submit" class="tlr-button is-primary" disabled={busy || path.trim() === ""}>
        {kind === "package" ? "Compress and save" : "Save"}
      </button>
      <span class="tlr-muted tlr-path-note">
        In the folder that the kernel runs in, or as an absolute path. Nothing is replaced unasked.
      </span>
      {free !== "" && (
        <span class="tlr-path-taken">
          <button type="button" class="tlr-button" onClick={() => save(path, true)}>
            Replace it
          </button>
          <button type="button" class="tlr-button" onClick={() => save(free, false)}>
            {`Save as ${free}`}
          </button>
        </span>
      )}
    </form>
  );
}

/** What was predicted beside what was written. */
function Verification({ report }: { report: Report }): VNode {
  return (
    <div class="tlr-report">
      <p class={report.ok ? "tlr-verdict" : "tlr-error"}>{`${report.ok ? "✓" : "✗"} ${report.verdict}`}</p>
      <table>
        <thead>
          <tr>
            <th scope="col">bytes</th>
            <th scope="col">predicted</th>
            <th scope="col">actual</th>
            <th scope="col">difference</th>
          </tr>
        </thead>
        <tbody>
          {report.rows.map(({ what, predicted, actual }) => (
            <tr key={what}>
              <th scope="row">{what}</th>
              <td>{format.grouped(predicted)}</td>
              <td>{format.grouped(actual)}</td>
              <td>{difference(predicted, actual)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <p class="tlr-muted">
        {`${format.grouped(report.matching)} of ${format.plural(report.weights, "weight")} take exactly the bytes that were predicted. ` +
          "Their values were read back from the compressed model and compared with the originals."}
      </p>
      {report.findings.length > 0 && (
        <ul>
          {report.findings.map(({ weight, finding }) => (
            <li key={weight}>
              <code>{weight}</code> {finding}
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}

const difference = (predicted: number, actual: number): string =>
  actual === predicted ? "none" : `${actual > predicted ? "+" : ""}${format.grouped(actual - predicted)}`;

const COPIED_MS = 2000;

function Code({ title, text }: { title: string; text: string }): VNode {
  const code = useRef<HTMLElement>(null);
  const [copied, setCopied] = useState("");
  useEffect(() => {
    if (copied === "") return;
    const timer = setTimeout(() => setCopied(""), COPIED_MS);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = async (): Promise<void> =>
    setCopied((await copyText(text, code.current)) ? "Copied" : "Select and copy by hand");
  return (
    <section class="tlr-export-text" aria-label={title}>
      <div class="tlr-dialog-head">
        <span class="tlr-muted">{title}</span>
        <span class="tlr-spacer" />
        <span class="tlr-muted" role="status">
          {copied}
        </span>
        <button type="button" class="tlr-button" onClick={() => void copy()}>
          Copy
        </button>
      </div>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: long code scrolls, which keys must reach */}
      <pre class="tlr-code" tabIndex={0}>
        <code ref={code}>{text}</code>
      </pre>
    </section>
  );
}

/** Notebooks served without TLS have no clipboard API; there the code is selected and copied the old way. */
async function copyText(text: string, shown: HTMLElement | null): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    if (!shown) return false;
    getSelection()?.selectAllChildren(shown);
    return document.execCommand("copy");
  }
}
