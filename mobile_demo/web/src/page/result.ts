/** The restored photo: what is shown, what it took, and saving it. */
import { type Crop, resize } from "../photo/crop";
import { type Photo, pixelsOf, toCanvas } from "../photo/read";
import { type About, type Result, STEPS } from "../protocol";
import { block, button, make, megabytes, say, seconds, show } from "./elements";
import { type Area, Slider } from "./slider";
import { NAMES } from "./steps";

/** A face is shown by itself first where it is a smaller part of the photo than this. */
const LARGE = 0.6;
/** A face may be this much larger than the model's size before that is worth a word. */
const TOLERATED = 1.25;

export class ResultView {
  private readonly slider = new Slider();
  private after: HTMLCanvasElement | undefined;
  private name = "photo";

  constructor() {
    button("save").addEventListener("click", () => this.save());
  }

  open(photo: Photo, result: Result, about: About | undefined): void {
    const after = toCanvas(result.picture);
    const before = sameSize(photo.canvas, after);
    this.after = after;
    this.name = photo.name;
    this.offerViews(before, after, result.crops);
    const faces = result.crops.length;
    const spent = STEPS.filter((step) => step !== "download").map((step) => result.seconds[step]);
    const total = spent.reduce((sum, value) => sum + value, 0);
    const facts = [
      faces === 1 ? "1 face" : `${faces} faces`,
      seconds(total),
      `${megabytes(result.heapBytes)} of memory`,
      about === undefined || about.threads === 1 ? "1 thread" : `${about.threads} threads`,
    ];
    block("facts").textContent = facts.join(" · ");
    block("limit").textContent = limit(result.crops, about);
    const rows = STEPS.map((step) => row(NAMES[step].doing, seconds(result.seconds[step])));
    const heap = row("Memory of WebAssembly", megabytes(result.heapBytes));
    const size = row("Photo", `${after.width} × ${after.height} pixels`);
    block("times").replaceChildren(...rows, heap, size);
    show("result");
    this.slider.reset();
    say(`Done. ${facts.join(", ")}. Arrow keys move the divider between before and after.`);
  }

  private offerViews(
    before: HTMLCanvasElement,
    after: HTMLCanvasElement,
    crops: readonly Crop[],
  ): void {
    const whole = { x: 0, y: 0, width: after.width, height: after.height };
    const areas = crops.map((crop) => inside(crop, after));
    const isLarge = areas[0].width > LARGE * Math.min(after.width, after.height);
    const labels = crops.length === 1 ? ["Face"] : crops.map((_, i) => `Face ${i + 1}`);
    const views: [string, Area][] = [["Whole photo", whole]];
    for (const [i, label] of labels.entries()) views.push([label, areas[i]]);
    const buttons = views.map(([label, area]) => {
      const made = make("button", label, "view");
      made.type = "button";
      made.addEventListener("click", () => choose(made, area));
      return made;
    });
    const choose = (chosen: HTMLButtonElement, area: Area) => {
      for (const made of buttons) made.setAttribute("aria-pressed", String(made === chosen));
      this.slider.show(before, after, area);
    };
    block("views").hidden = crops.length === 1 && isLarge;
    block("views").replaceChildren(...buttons);
    const first = isLarge || crops.length > 1 ? 0 : 1;
    choose(buttons[first], views[first][1]);
  }

  private save(): void {
    this.after?.toBlob((blob) => {
      if (blob === null) return;
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = `${this.name}-restored.png`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    });
  }
}

/** A face crop smaller than the model's size comes back larger: enlarge what it was. */
function sameSize(photo: HTMLCanvasElement, after: HTMLCanvasElement): HTMLCanvasElement {
  if (photo.width === after.width && photo.height === after.height) return photo;
  return toCanvas(resize(pixelsOf(photo), after.width, after.height));
}

/** What the model can't do for faces that have more pixels than it. */
function limit(crops: readonly Crop[], about: About | undefined): string {
  if (about === undefined || crops.every(({ side }) => side <= about.size * TOLERATED)) return "";
  const side = Math.max(...crops.map((crop) => crop.side));
  return (
    `This model draws faces at ${about.size} × ${about.size} pixels, and here one has ` +
    `${side} × ${side}: fine detail is lost. Small or blurred faces gain most.`
  );
}

/** A crop's part inside the photo. */
function inside(crop: Crop, { width, height }: HTMLCanvasElement): Area {
  const x = Math.max(0, crop.x);
  const y = Math.max(0, crop.y);
  return {
    x,
    y,
    width: Math.min(width, crop.x + crop.side) - x,
    height: Math.min(height, crop.y + crop.side) - y,
  };
}

function row(name: string, value: string): HTMLTableRowElement {
  const made = document.createElement("tr");
  const head = make("th", name);
  head.scope = "row";
  made.append(head, make("td", value));
  return made;
}
