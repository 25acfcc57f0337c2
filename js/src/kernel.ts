/** Whether the kernel is there, as far as the host says: JupyterLab's and Notebook's widget managers know it. */

import type { HostModel } from "./protocol";

interface Emitter {
  connect(slot: () => void): unknown;
  disconnect(slot: () => void): unknown;
}

/** What is used of a kernel connection of @jupyterlab/services; each part may be missing elsewhere. */
interface Kernel {
  status?: string;
  connectionStatus?: string;
  isDisposed?: boolean;
  statusChanged?: Emitter;
  connectionStatusChanged?: Emitter;
  disposed?: Emitter;
}

/** How a kernel took its sessions with it: it may be there again, but knows nothing of them. */
export type End = "restarted" | "died" | "ended" | "missing";

const ENDS: Readonly<Record<string, End>> = {
  restarting: "restarted",
  autorestarting: "died",
  terminating: "ended",
  dead: "ended",
};

export interface KernelWatch {
  end: End | null;
  /** there again, or out of reach for a while */
  reachable: boolean;
}

/** @returns what stops it */
export function watchKernel(model: HostModel, changed: (watch: KernelWatch) => void): () => void {
  const kernel = (model.widget_manager as { kernel?: Kernel | null } | undefined)?.kernel;
  if (kernel === null) changed({ end: "missing", reachable: false });
  if (!kernel) return () => undefined;
  const update = (): void =>
    changed({
      end: ENDS[kernel.status ?? ""] ?? (kernel.isDisposed === true ? "ended" : null),
      reachable: (kernel.connectionStatus ?? "connected") === "connected",
    });
  const emitters = [kernel.statusChanged, kernel.connectionStatusChanged, kernel.disposed];
  for (const emitter of emitters) emitter?.connect(update);
  update();
  return () => {
    for (const emitter of emitters) emitter?.disconnect(update);
  };
}
