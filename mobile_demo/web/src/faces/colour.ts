/** Brightness, and what colour says of a place being skin, with OpenCV's constants. */
import type { Box } from "../photo/box";
import type { Picture } from "../photo/picture";
import type { Gray } from "./cascade";

export function toGray({ width, height, data }: Picture): Gray {
  const gray = new Uint8ClampedArray(width * height);
  for (let i = 0, from = 0; i < gray.length; i++, from += 4) {
    gray[i] = luma(data, from);
  }
  return { width, height, data: gray };
}

/** Red and blue chroma, less 128, of every pixel. */
export interface Chroma {
  readonly width: number;
  readonly height: number;
  readonly red: Int16Array;
  readonly blue: Int16Array;
}

export function toChroma({ width, height, data }: Picture): Chroma {
  const red = new Int16Array(width * height);
  const blue = new Int16Array(width * height);
  for (let i = 0, from = 0; i < red.length; i++, from += 4) {
    const y = luma(data, from);
    red[i] = byte((data[from] - y) * 0.713);
    blue[i] = byte((data[from + 2] - y) * 0.564);
  }
  return { width, height, red, blue };
}

/** Mean distance from gray. */
export function colourfulness({ red, blue }: Chroma): number {
  let sum = 0;
  for (let i = 0; i < red.length; i++) sum += Math.abs(red[i]) + Math.abs(blue[i]);
  return sum / (2 * red.length);
}

export function average({ red, blue }: Chroma): [number, number] {
  const sum = (values: Int16Array) => values.reduce((total, value) => total + value, 0);
  return [sum(red) / red.length, sum(blue) / blue.length];
}

/** Part of a box, 0..1, that has the colour of skin after `shift` is added to both chromas. */
export function skin(chroma: Chroma, box: Box, shift: [number, number]): number {
  let inside = 0;
  let skinny = 0;
  for (let y = Math.max(0, box.y); y < Math.min(chroma.height, box.y + box.side); y++) {
    for (let x = Math.max(0, box.x); x < Math.min(chroma.width, box.x + box.side); x++) {
      const red = chroma.red[y * chroma.width + x] + shift[0];
      const blue = chroma.blue[y * chroma.width + x] + shift[1];
      inside++;
      if (red > 5 && red < 52 && blue > -51 && blue < 2) skinny++;
    }
  }
  return inside === 0 ? 0 : skinny / inside;
}

function luma(data: Uint8ClampedArray, at: number): number {
  return (9798 * data[at] + 19235 * data[at + 1] + 3735 * data[at + 2] + 16384) >> 15;
}

/** Rounded, and within what 128 plus it may be. */
function byte(value: number): number {
  return Math.min(127, Math.max(-128, Math.round(value)));
}
