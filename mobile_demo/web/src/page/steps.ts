/** Which step is being done, how far the whole is, and how much has been downloaded. */
import { STEPS, type Step } from "../protocol";
import { block, element, make, megabytes, say } from "./elements";

/** What each step is called, and its share of the time. */
export const NAMES: Record<Step, { readonly doing: string; readonly share: number }> = {
  faces: { doing: "Looking for faces", share: 0.15 },
  download: { doing: "Loading the models", share: 0.2 },
  vre: { doing: "Recognising features", share: 0.15 },
  vae_encoder: { doing: "Reading the face", share: 0.15 },
  unet: { doing: "Restoring", share: 0.2 },
  vae_decoder: { doing: "Drawing the face", share: 0.15 },
};

export class Steps {
  private readonly items = new Map<Step, HTMLLIElement>();
  private readonly bar = element("bar", HTMLProgressElement);

  /** All steps, none begun. */
  reset(): void {
    this.items.clear();
    for (const step of STEPS) this.items.set(step, make("li", NAMES[step].doing));
    block("steps").replaceChildren(...this.items.values());
    this.bar.value = 0;
  }

  begin(step: Step, face: number, faces: number): void {
    const at = STEPS.indexOf(step);
    for (const [i, name] of STEPS.entries()) {
      const item = this.items.get(name);
      if (item === undefined) continue;
      item.className = i < at ? "done" : i === at ? "doing" : "";
      if (i === at) item.setAttribute("aria-current", "step");
      else item.removeAttribute("aria-current");
    }
    const { doing } = NAMES[step];
    const text = faces > 1 ? `${doing}: face ${face + 1} of ${faces}` : doing;
    const item = this.items.get(step);
    if (item !== undefined) item.textContent = text;
    say(text);
    this.advance(step, faces > 0 ? face / faces : 0);
  }

  download(done: number, total: number): void {
    const item = this.items.get("download");
    if (item?.className !== "doing") return;
    const size = done < total ? `${megabytes(done)} of ${megabytes(total)}` : megabytes(total);
    item.textContent = `${NAMES.download.doing}: ${size}`;
    this.advance("download", done / total);
  }

  private advance(step: Step, part: number): void {
    const before = STEPS.slice(0, STEPS.indexOf(step)).map((name) => NAMES[name].share);
    const share = part * NAMES[step].share;
    this.bar.value = before.reduce((sum, value) => sum + value, share);
  }
}
