import { useSignal } from "@preact/signals";
import { useCallback } from "preact/hooks";

/**
 * Takes what paints a canvas. Painting runs when a signal changes, outside of any component: what goes wrong there is
 * thrown where the view is drawn next, for the boundary around it to say, and what changed the signal goes on.
 */
export function useGuard(): (paint: () => void) => void {
  const failed = useSignal<{ error: unknown } | null>(null);
  if (failed.value) throw failed.value.error;
  return useCallback(
    (paint) => {
      try {
        paint();
      } catch (error) {
        failed.value = { error };
      }
    },
    [failed],
  );
}
