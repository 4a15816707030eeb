/** Restore the faces of a photograph: the four stages one after the other, each let go after use. */
import { findFaces } from "./faces/detect";
import { STAGES } from "./models/bundle";
import { heapBytes } from "./models/heap";
import { imageTensor, type Tensor } from "./models/runtime";
import type { Supply } from "./models/supply";
import { type Crop, cut, frame, middle, paste, resize, whole } from "./photo/crop";
import { type Picture, roundEven } from "./photo/picture";
import { toInput, toPicture } from "./photo/pixels";
import { type Result, STEPS, type Step, type Where } from "./protocol";

interface Listener {
  onStep(step: Step, face: number, faces: number): void;
  onBytes(done: number): void;
}

/** Undefined where no face was found. */
export async function restore(
  photo: Picture,
  where: Where,
  supply: () => Promise<Supply>,
  { onStep, onBytes }: Listener,
): Promise<Result | undefined> {
  const clock = new Clock();
  onStep("faces", 0, 0);
  const crops = place(photo, where);
  clock.finish("faces");
  if (crops.length === 0) return undefined;
  onStep("download", 0, 0);
  const models = await supply();
  await models.fetchAll(onBytes);
  clock.finish("download");
  const { size } = models.bundle;
  const tensors = crops.map(
    (crop): Record<string, Tensor> => ({
      image: imageTensor(toInput(cut(photo, crop, size)), size),
    }),
  );
  for (const { name, inputs, output } of STAGES) {
    onStep(name, 0, crops.length);
    const stage = await models.openStage(name);
    for (const [i, face] of tensors.entries()) {
      if (i > 0) onStep(name, i, crops.length);
      face[output] = await stage.run(Object.fromEntries(inputs.map((key) => [key, face[key]])));
    }
    await stage.release();
    clock.finish(name);
  }
  const faces = tensors.map(({ restored }) => toPicture(restored.data as Float32Array, size));
  const picture = where === "whole" ? enlarged(photo, faces[0]) : pasted(photo, faces, crops);
  return { picture, crops, seconds: clock.seconds, heapBytes: heapBytes() };
}

function place(photo: Picture, where: Where): Crop[] {
  if (where === "faces") return findFaces(photo).map(frame);
  return [where === "middle" ? middle(photo) : whole(photo)];
}

function pasted(photo: Picture, faces: readonly Picture[], crops: readonly Crop[]): Picture {
  const picture = { ...photo, data: photo.data.slice() };
  for (const [i, face] of faces.entries()) paste(picture, face, crops[i]);
  return picture;
}

/** The restored square cut back to the photograph's aspect, at its size or the model's. */
function enlarged(photo: Picture, face: Picture): Picture {
  const longer = Math.max(photo.width, photo.height);
  const side = Math.max(longer, face.width);
  const square = resize(face, side, side);
  const height = roundEven((photo.height * side) / longer);
  const width = roundEven((photo.width * side) / longer);
  const x = (side - width + 1) >> 1;
  const y = (side - height + 1) >> 1;
  return cutOut(square, x, y, width, height);
}

function cutOut(from: Picture, x: number, y: number, width: number, height: number): Picture {
  const data = new Uint8ClampedArray(4 * width * height);
  for (let row = 0; row < height; row++) {
    const start = 4 * ((y + row) * from.width + x);
    data.set(from.data.subarray(start, start + 4 * width), 4 * row * width);
  }
  return { width, height, data };
}

class Clock {
  readonly seconds = Object.fromEntries(STEPS.map((step) => [step, 0])) as Record<Step, number>;
  private begun = performance.now();

  finish(step: Step): void {
    const now = performance.now();
    this.seconds[step] = (now - this.begun) / 1000;
    this.begun = now;
  }
}
