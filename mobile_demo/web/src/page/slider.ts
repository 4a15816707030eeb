/** Before and after over one another, with a divider that fingers, mice and keys move. */
import { block, canvas, element } from "./elements";

/** Part of a picture, in its pixels. */
export interface Area {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** Sides up to which a view is drawn at more pixels than it has, so that both are smooth. */
const SHARP = 640;

export class Slider {
  private readonly box = block("compare");
  private readonly input = element("slider", HTMLInputElement);

  constructor() {
    this.input.addEventListener("input", () => this.draw());
    this.box.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      this.box.setPointerCapture(event.pointerId);
      this.move(event);
      event.preventDefault();
      this.input.focus({ preventScroll: true });
    });
    this.box.addEventListener("pointermove", (event) => {
      if (this.box.hasPointerCapture(event.pointerId)) this.move(event);
    });
  }

  /** Show the same area of both pictures, which have the same size. */
  show(before: HTMLCanvasElement, after: HTMLCanvasElement, area: Area): void {
    const factor = Math.max(1, SHARP / Math.max(area.width, area.height));
    for (const [id, source] of [
      ["before", before],
      ["after", after],
    ] as const) {
      const view = canvas(id);
      view.width = Math.round(area.width * factor);
      view.height = Math.round(area.height * factor);
      const context = view.getContext("2d");
      if (context === null) continue;
      context.imageSmoothingQuality = "high";
      const { x, y, width, height } = area;
      context.drawImage(source, x, y, width, height, 0, 0, view.width, view.height);
    }
    this.box.style.setProperty("--ratio", String(area.width / area.height));
    this.draw();
  }

  /** Put the divider in the middle and let keys move it. */
  reset(): void {
    this.input.value = "50";
    this.draw();
    this.input.focus({ preventScroll: true });
  }

  private move(event: PointerEvent): void {
    const { left, width } = this.box.getBoundingClientRect();
    this.input.value = String((100 * (event.clientX - left)) / width);
    this.draw();
  }

  private draw(): void {
    this.box.style.setProperty("--at", `${this.input.value}%`);
    this.input.setAttribute("aria-valuetext", `${this.input.value} % before`);
  }
}
