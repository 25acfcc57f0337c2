import type { VNode } from "preact";
import type { Frame } from "../details";

interface SourceProps {
  frames: readonly Frame[];
  /** whether there is room for the lines around the first */
  open: boolean;
}

/** The code that made an op, innermost frame first; each line opens to those around it. Text only. */
export function Source({ frames, open }: SourceProps): VNode {
  return (
    <section class="tlr-details-part tlr-source" aria-label="Source">
      {frames.length === 0 && <p class="tlr-muted">No line of source code is known for this op.</p>}
      {frames.map((frame, i) => (
        <details key={`${i} ${frame.file} ${frame.line}`} open={open && i === 0}>
          <summary class={i === 0 ? "is-first" : ""} title={`${frame.file}:${frame.line}`}>
            <span class="tlr-source-place">
              <bdi>{`${short(frame.file)}:${frame.line}`}</bdi>
            </span>
            <code>{lineOf(frame).trim()}</code>
          </summary>
          <Lines frame={frame} />
        </details>
      ))}
    </section>
  );
}

function Lines({ frame }: { frame: Frame }): VNode {
  const depth = Math.min(...frame.lines.filter((line) => line.trim() !== "").map(indent));
  return (
    <figure class="tlr-source-lines" aria-label={`in ${frame.function}`}>
      {frame.lines.map((line, i) => {
        const number = frame.first + i;
        const here = number === frame.line;
        return (
          <div key={number} class={here ? "is-here" : ""} aria-current={here ? "true" : undefined}>
            <span class="tlr-source-number">{number}</span>
            <code title={line.trim()}>{line.slice(Number.isFinite(depth) ? depth : 0)}</code>
          </div>
        );
      })}
    </figure>
  );
}

const indent = (line: string): number => line.length - line.trimStart().length;
const lineOf = (frame: Frame): string => frame.lines[frame.line - frame.first] ?? "";

/** The last part of a path: "modeling_bert.py". */
const short = (file: string): string => file.replaceAll("\\", "/").split("/").at(-1) || file;
