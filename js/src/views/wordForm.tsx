import type { VNode } from "preact";

interface WordFormProps {
  class?: string;
  label: string;
  placeholder: string;
  text: string;
  change(text: string): void;
  /** what the button says */
  action: string;
  primary?: boolean;
  /** gets the text without spaces around it, and is not called for none */
  submit(text: string): void;
}

/** A line to write in, and a button that does something with it. */
export function WordForm(props: WordFormProps): VNode {
  const { label, placeholder, text, change, action, primary, submit } = props;
  const word = text.trim();
  return (
    <form
      class={props.class}
      onSubmit={(e) => {
        e.preventDefault();
        if (word !== "") submit(word);
      }}
    >
      <input
        type="text"
        class="tlr-search"
        aria-label={label}
        placeholder={placeholder}
        spellcheck={false}
        value={text}
        onInput={(e) => change(e.currentTarget.value)}
      />
      <button type="submit" class={`tlr-button${primary ? " is-primary" : ""}`} disabled={word === ""}>
        {action}
      </button>
    </form>
  );
}
