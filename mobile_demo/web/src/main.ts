/** The page: photo in, restored photo out, and everything that may go wrong in between. */
import { type Listener, Restorer } from "./client";
import sampleUrl from "./generated/sample.jpg?url";
import { Store } from "./models/store";
import { Camera } from "./page/camera";
import { block, button, canvas, element, megabytes, show } from "./page/elements";
import { clearNotice, notify } from "./page/notice";
import { pickPhotos } from "./page/picker";
import { ResultView } from "./page/result";
import { Steps } from "./page/steps";
import { unsupported } from "./page/support";
import { type Photo, pixelsOf, readPhoto } from "./photo/read";
import { sentence } from "./problem";
import type { About, Where } from "./protocol";

/** Models up to this size are fetched before they are asked for. */
const SMALL_BYTES = 64e6;

const steps = new Steps();
const camera = new Camera();
const view = new ResultView();
let about: About | undefined;

const listener: Listener = {
  onAbout(known) {
    about = known;
    const { model, recipe, size, bytes } = known;
    block("about").textContent =
      `Model ${model} ${recipe}, ${size} × ${size}: ${megabytes(bytes)}, loaded once and kept here.`;
    if (bytes <= SMALL_BYTES) restorer.prepare();
  },
  onPrepared() {
    block("offline").textContent = "Ready to work offline.";
    button("forget").hidden = false;
  },
  onProgress(reply) {
    if (reply.kind === "step") steps.begin(reply.step, reply.face, reply.faces);
    else steps.download(reply.done, reply.total);
  },
};
/** `?threads=2` for comparisons; else as many as the device has. */
const wished = Number(new URLSearchParams(location.search).get("threads"));
const restorer = new Restorer(listener, wished > 0 ? wished : undefined);

async function run(photo: Photo, where: Where): Promise<void> {
  clearNotice();
  show("working");
  steps.reset();
  preview(photo);
  try {
    const result = await restorer.restore(pixelsOf(photo.canvas), where);
    if (result === undefined) nobody(photo);
    else view.open(photo, result, about);
  } catch (error) {
    show("start");
    notify("problem", sentence(error), [{ label: "Try again", run: () => void run(photo, where) }]);
  }
}

function nobody(photo: Photo): void {
  show("start");
  notify("info", "No face was found. It should be upright and look towards the camera.", [
    { label: "Use the middle of the photo", run: () => void run(photo, "middle") },
  ]);
}

function preview(photo: Photo): void {
  const small = canvas("preview");
  const factor = Math.min(1, 480 / Math.max(photo.canvas.width, photo.canvas.height));
  small.width = Math.max(1, Math.round(photo.canvas.width * factor));
  small.height = Math.max(1, Math.round(photo.canvas.height * factor));
  small.getContext("2d")?.drawImage(photo.canvas, 0, 0, small.width, small.height);
}

async function open(file: File): Promise<void> {
  clearNotice();
  try {
    const photo = await readPhoto(file);
    const where = element("whole", HTMLInputElement).checked ? "whole" : "faces";
    const done = run(photo, where);
    if (photo.shrunkFrom !== undefined) {
      const { width, height } = photo.shrunkFrom;
      const pixels = `${Math.round((width * height) / 1e6)} megapixels`;
      const now = `${photo.canvas.width} × ${photo.canvas.height}`;
      notify("info", `The photo has ${pixels}. It was made smaller, to ${now}, to fit in memory.`);
    }
    await done;
  } catch (error) {
    show("start");
    notify("problem", sentence(error));
  }
}

button("cancel").addEventListener("click", () => {
  restorer.cancel();
  show("start");
});
button("again").addEventListener("click", () => {
  clearNotice();
  show("start");
  element("file", HTMLInputElement).focus();
});
button("camera-open").addEventListener("click", () => {
  camera
    .open((taken) => void run({ canvas: taken, name: "camera" }, "faces"))
    .catch((error: unknown) => notify("problem", sentence(error)));
});
button("sample").addEventListener("click", async () => {
  const answer = await fetch(sampleUrl);
  await open(new File([await answer.blob()], "sample.jpg", { type: "image/jpeg" }));
});
button("forget").addEventListener("click", async () => {
  await Store.clear();
  block("offline").textContent = "Stored models were removed.";
  button("forget").hidden = true;
});

show("start");
const reason = unsupported();
if (reason === undefined) {
  pickPhotos((file) => void open(file));
  restorer.open();
} else {
  notify("problem", reason);
  block("start").inert = true;
}
if (import.meta.env.PROD && "serviceWorker" in navigator) {
  void navigator.serviceWorker.register("./sw.js");
}
