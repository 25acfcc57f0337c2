/** What is said in place of a view that cannot be drawn. */

export const AGAIN = "Run the cell that made it again; if that does not help, restart the kernel.";

export const messageOf = (error: unknown): string =>
  (error instanceof Error ? error.message : String(error)).replace(/\.$/, "");

/** @returns what takes it away */
export function say(el: HTMLElement, sentence: string): () => void {
  const line = document.createElement("p");
  line.setAttribute("role", "alert");
  line.textContent = sentence;
  el.replaceChildren(line);
  return () => line.remove();
}
