/** The page's elements by id, each of the kind that it is in `index.html`. */
export function element<T extends HTMLElement>(id: string, kind: new () => T): T {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`#${id} is not a ${kind.name}`);
  return found;
}

export const button = (id: string) => element(id, HTMLButtonElement);
export const canvas = (id: string) => element(id, HTMLCanvasElement);
export const block = (id: string) => element(id, HTMLElement);

type View = "start" | "working" | "result";

/** Show one section of the page and hide the others. */
export function show(view: View): void {
  for (const name of ["start", "working", "result"] as const) block(name).hidden = name !== view;
  block("main").dataset.view = view;
}

/** Have a screen reader say something. */
export function say(text: string): void {
  block("spoken").textContent = text;
}

export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  text: string,
  className = "",
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = className;
  return made;
}

export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(bytes < 1e8 ? 1 : 0)} MB`;
}

export function seconds(value: number): string {
  return `${value.toFixed(value < 10 ? 1 : 0)} s`;
}
