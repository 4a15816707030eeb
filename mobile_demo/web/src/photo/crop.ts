/** Cut a square around a face and paste its restored version back without a seam. */
import { type Box, centre } from "./box";
import { blank, type Picture, roundEven } from "./picture";
import { resample } from "./resample";

/** A square of a photograph; it may reach beyond its edges. */
export interface Crop {
  readonly x: number;
  readonly y: number;
  readonly side: number;
}

/** Side of the frame that restorers are trained on over the side of a brow-to-chin box. */
const MARGIN = 1.7;
/** How far that frame lies above the box's centre, in sides of the box. */
const LIFT = 0.05;
/** Exponent of the mask's superellipse `|u|^n + |v|^n = 1`. */
const ROUNDNESS = 3;
/** Width of the mask's transition, as a part of the half side. */
const FEATHER = 0.3;

export function frame(box: Box): Crop {
  const side = Math.max(2, roundEven(box.side * MARGIN));
  const [x, y] = centre(box);
  return { x: roundEven(x - side / 2), y: roundEven(y - LIFT * box.side - side / 2), side };
}

/** The square in the middle, for a photograph in which no face was found. */
export function middle(photo: Picture): Crop {
  const side = Math.min(photo.width, photo.height);
  return { x: (photo.width - side) >> 1, y: (photo.height - side) >> 1, side };
}

/** The smallest square around a photograph that is one face crop. */
export function whole(photo: Picture): Crop {
  const side = Math.max(photo.width, photo.height);
  return { x: (photo.width - side) >> 1, y: (photo.height - side) >> 1, side };
}

/** Resize by area when shrinking and by a cubic when enlarging. */
export function resize(picture: Picture, width: number, height: number): Picture {
  if (picture.width === width && picture.height === height) return picture;
  const shrinks = width * height < picture.width * picture.height;
  return resample(picture, width, height, shrinks ? "area" : "cubic");
}

/** The crop at the model's size; beyond the photograph it is mirrored. */
export function cut(photo: Picture, crop: Crop, size: number): Picture {
  return resize(mirroredOut(photo, crop), size, size);
}

function mirroredOut(photo: Picture, crop: Crop): Picture {
  const result = blank(crop.side, crop.side);
  const from = pixels(photo);
  const to = pixels(result);
  for (let y = 0, i = 0; y < crop.side; y++) {
    const row = photo.width * mirrored(crop.y + y, photo.height);
    for (let x = 0; x < crop.side; x++, i++) {
      to[i] = from[row + mirrored(crop.x + x, photo.width)];
    }
  }
  return result;
}

/** Blend a restored face into `photo`; where the mask is 0 every pixel keeps its value. */
export function paste(photo: Picture, restored: Picture, crop: Crop): void {
  const face = resize(restored, crop.side, crop.side);
  const top = Math.max(0, crop.y);
  const left = Math.max(0, crop.x);
  const bottom = Math.min(photo.height, crop.y + crop.side);
  const right = Math.min(photo.width, crop.x + crop.side);
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      const from = 4 * ((y - crop.y) * crop.side + x - crop.x);
      const to = 4 * (y * photo.width + x);
      const alpha = mask(x - crop.x, y - crop.y, crop.side);
      if (alpha === 0) continue;
      for (let channel = 0; channel < 3; channel++) {
        const under = photo.data[to + channel];
        photo.data[to + channel] = under + alpha * (face.data[from + channel] - under);
      }
    }
  }
}

/**
 * How much of the restored face shows at a pixel: 1 in the middle, 0 along the edge.
 *
 * `3 t^2 - 2 t^3` of `t = (1 - r) / FEATHER` clipped to [0, 1], where
 * `r = (|u|^n + |v|^n)^(1/n)` for u, v in [-1, 1].
 */
export function mask(x: number, y: number, side: number): number {
  const u = Math.abs((2 * x + 1) / side - 1) ** ROUNDNESS;
  const v = Math.abs((2 * y + 1) / side - 1) ** ROUNDNESS;
  const t = Math.min(1, Math.max(0, (1 - (u + v) ** (1 / ROUNDNESS)) / FEATHER));
  return t * t * (3 - 2 * t);
}

/** `index` folded into 0..length-1, the edge pixel not repeated. */
export function mirrored(index: number, length: number): number {
  const period = Math.max(1, 2 * (length - 1));
  const folded = ((index % period) + period) % period;
  return folded < length ? folded : period - folded;
}

function pixels(picture: Picture): Uint32Array {
  return new Uint32Array(picture.data.buffer, picture.data.byteOffset, picture.data.length / 4);
}
