import type { VNode } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Store } from "../store";

/** Asks Python for the configs; while the kernel is busy it says so and can be called off. */
export function ExportButton({ store }: { store: Store }): VNode {
  const waiting = store.waiting.value !== null;
  return (
    <>
      <span class="tlr-muted tlr-waiting" role="status">
        {waiting ? "waiting for the kernel…" : ""}
      </span>
      {waiting ? (
        <button type="button" class="tlr-button is-export" onClick={() => store.cancelRequest()}>
          Cancel
        </button>
      ) : (
        <button
          type="button"
          class="tlr-button is-primary is-export"
          title="Put the coremltools configs of this plan into the notebook and show the code"
          onClick={() => store.request("export")}
        >
          Export
        </button>
      )}
    </>
  );
}

export function ExportDialog({ store }: { store: Store }): VNode | null {
  const response = store.response.value;
  return response ? <Dialog key={response.id} store={store} /> : null;
}

const COPIED_MS = 2000;

function Dialog({ store }: { store: Store }): VNode | null {
  const dialog = useRef<HTMLDialogElement>(null);
  const code = useRef<HTMLElement>(null);
  const [copied, setCopied] = useState("");
  useLayoutEffect(() => {
    const before = document.activeElement;
    dialog.current?.showModal();
    return () => {
      if (before instanceof HTMLElement) before.focus({ preventScroll: true });
    };
  }, []);
  useEffect(() => {
    if (copied === "") return;
    const timer = setTimeout(() => setCopied(""), COPIED_MS);
    return () => clearTimeout(timer);
  }, [copied]);
  const response = store.response.value;
  if (!response) return null;
  const copy = async (): Promise<void> =>
    setCopied((await copyText(response.code, code.current)) ? "Copied" : "Select and copy by hand");
  return (
    <dialog
      ref={dialog}
      class="tlr-dialog"
      aria-label={response.ok ? "Export" : "Export failed"}
      onClose={() => store.closeResponse()}
      onKeyDown={(e) => e.stopPropagation()}
    >
      <div class="tlr-dialog-head">
        <h3>{response.ok ? "Export" : "Export failed"}</h3>
        <button
          type="button"
          class="tlr-button is-icon"
          aria-label="Close"
          onClick={() => dialog.current?.close()}
        >
          ✕
        </button>
      </div>
      {response.message !== "" && <p class={response.ok ? "" : "tlr-error"}>{response.message}</p>}
      {response.variables.some((name) => !response.message.includes(name)) && (
        <p>
          {"In your notebook now: "}
          {response.variables.map((name) => (
            <code key={name} class="tlr-variable">
              {name}
            </code>
          ))}
        </p>
      )}
      {response.code !== "" && (
        <>
          {/* biome-ignore lint/a11y/noNoninteractiveTabindex: long code scrolls, which keys must reach */}
          <pre class="tlr-code" tabIndex={0}>
            <code ref={code}>{response.code}</code>
          </pre>
          <div class="tlr-dialog-foot">
            <span class="tlr-muted" role="status">
              {copied}
            </span>
            <button type="button" class="tlr-button is-primary" onClick={() => void copy()}>
              Copy
            </button>
          </div>
        </>
      )}
    </dialog>
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
