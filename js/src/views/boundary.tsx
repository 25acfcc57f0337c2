import { Component, type ComponentChildren, type VNode } from "preact";
import { messageOf } from "../sentence";

interface BoundaryProps {
  /** what the part is called: "The graph" */
  what: string;
  children: ComponentChildren;
}

/** Around every part: one that cannot be drawn says so, and the others go on. */
export class Boundary extends Component<BoundaryProps, { error: unknown }> {
  static override getDerivedStateFromError(error: unknown): { error: unknown } {
    return { error };
  }

  override componentDidCatch(error: unknown): void {
    console.error(error);
  }

  override render(): ComponentChildren {
    if (this.state.error === undefined) return this.props.children;
    return (
      <Sentence alert>
        {`${this.props.what} could not be drawn: ${messageOf(this.state.error)}. Edits are kept. `}
        <button type="button" class="tlr-button" onClick={() => this.setState({ error: undefined })}>
          Draw it again
        </button>
      </Sentence>
    );
  }
}

/** What is said in place of a part. */
export function Sentence({ alert, children }: { alert?: boolean; children: ComponentChildren }): VNode {
  return (
    <p class="tlr-sentence" role={alert ? "alert" : "status"}>
      {children}
    </p>
  );
}
