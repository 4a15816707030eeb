/** One message at a time, above everything else, with what can be done about it. */
import { block, make } from "./elements";

export interface Action {
  readonly label: string;
  run(): void;
}

/** A problem, or something to know. */
type Kind = "problem" | "info";

export function notify(kind: Kind, text: string, actions: readonly Action[] = []): void {
  const box = block("notice");
  const buttons = [...actions, { label: "Dismiss", run() {} }].map(({ label, run }) => {
    const made = make("button", label, "button small");
    made.type = "button";
    made.addEventListener("click", () => {
      clearNotice();
      run();
    });
    return made;
  });
  const row = make("div", "", "actions");
  row.append(...buttons);
  box.className = `notice ${kind}`;
  box.replaceChildren(make("p", text), row);
  box.scrollIntoView({ block: "nearest" });
}

export function clearNotice(): void {
  const box = block("notice");
  box.className = "";
  box.replaceChildren();
}
