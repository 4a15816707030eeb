/** Pictures between bytes and the numbers that the stages take and give. */
import { blank, type Picture } from "./picture";

/** (3, h, w) in [-1, 1]. */
export function toInput({ width, height, data }: Picture): Float32Array {
  const plane = width * height;
  const input = new Float32Array(3 * plane);
  for (let i = 0; i < plane; i++) {
    for (let channel = 0; channel < 3; channel++) {
      input[channel * plane + i] = Math.fround(data[4 * i + channel] / 127.5) - 1;
    }
  }
  return input;
}

/** From (3, size, size) in [0, 1]. */
export function toPicture(restored: Float32Array, size: number): Picture {
  const picture = blank(size, size);
  const plane = size * size;
  for (let i = 0; i < plane; i++) {
    for (let channel = 0; channel < 3; channel++) {
      picture.data[4 * i + channel] = Math.fround(restored[channel * plane + i] * 255);
    }
  }
  return picture;
}
