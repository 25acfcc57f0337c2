import type { VNode } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { GROUPS } from "../keys";

/** Every key there is, in columns. */
export function KeysDialog({ close }: { close(): void }): VNode {
  const dialog = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => {
    const root = dialog.current?.getRootNode();
    const before = root instanceof ShadowRoot || root instanceof Document ? root.activeElement : null;
    dialog.current?.showModal();
    return () => before instanceof HTMLElement && before.focus({ preventScroll: true });
  }, []);
  return (
    <dialog
      ref={dialog}
      class="tlr-dialog tlr-keys"
      aria-label="Keys"
      onClose={close}
      onKeyDown={(e) => e.stopPropagation()}
    >
      <div class="tlr-dialog-head">
        <h3>Keys</h3>
        <button
          type="button"
          class="tlr-button is-icon"
          aria-label="Close"
          onClick={() => dialog.current?.close()}
        >
          ✕
        </button>
      </div>
      <div class="tlr-keys-groups">
        {GROUPS.map(({ title, keys }) => (
          <section key={title} aria-label={title}>
            <h4>{title}</h4>
            <dl>
              {keys.map((key) => (
                <div key={key.keys}>
                  <dt>{key.keys}</dt>
                  <dd>{key.does}</dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
      </div>
    </dialog>
  );
}
