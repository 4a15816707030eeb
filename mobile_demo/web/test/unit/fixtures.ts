/** Pictures and numbers that `test/fixtures.py` wrote. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { blank, type Picture } from "../../src/photo/picture";

export const FOLDER = join(import.meta.dirname, "..", "..", ".fixtures");

export interface Photo {
  readonly name: string;
  readonly width: number;
  readonly height: number;
  readonly boxes: [x: number, y: number, side: number, score: number][];
}

export interface Fixtures {
  readonly size: number;
  readonly needed: number;
  readonly photos: Photo[];
}

export const fixtures: Fixtures = JSON.parse(readFileSync(join(FOLDER, "fixtures.json"), "utf8"));

export function readPicture(name: string, width: number, height: number): Picture {
  const rgb = readFileSync(join(FOLDER, `${name}.rgb`));
  const picture = blank(width, height);
  for (let i = 0; i < width * height; i++) {
    picture.data.set(rgb.subarray(3 * i, 3 * i + 3), 4 * i);
  }
  return picture;
}

/** Largest and mean difference of two pictures, in levels. */
export function difference(a: Picture, b: Picture): { largest: number; mean: number } {
  let largest = 0;
  let sum = 0;
  for (let i = 0; i < a.data.length; i++) {
    const d = Math.abs(a.data[i] - b.data[i]);
    largest = Math.max(largest, d);
    sum += d;
  }
  return { largest, mean: sum / a.data.length };
}
