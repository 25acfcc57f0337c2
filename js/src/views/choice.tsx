import type { VNode } from "preact";

interface ChoiceProps<T extends string> {
  class?: string;
  /** what stands before it, and what it is called where that is not enough */
  text: string;
  label: string;
  value: T;
  options: readonly T[];
  button?: boolean;
  change(value: T): void;
}

/** One of a few words, chosen from a list. */
export function Choice<T extends string>(props: ChoiceProps<T>): VNode {
  const { text, label, value, options, button, change } = props;
  return (
    <label class={`tlr-muted ${props.class ?? ""}`}>
      {`${text} `}
      <select
        class={`tlr-select${button ? " is-button" : ""}`}
        aria-label={label}
        value={value}
        onChange={(e) => change(e.currentTarget.value as T)}
      >
        {options.map((each) => (
          <option key={each} value={each}>
            {each}
          </option>
        ))}
      </select>
    </label>
  );
}
