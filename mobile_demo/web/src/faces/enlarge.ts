/**
 * Bilinear enlargement in OpenCV's fixed point: it rounds down in between, and the cascade, which
 * compares sums, sees that.
 */
import { blank, type Picture } from "../photo/picture";

/** Weights are whole parts of this. */
const ONE = 2048;

/** `scale`: source pixels per target pixel, at most 1. */
export function enlarge(picture: Picture, width: number, height: number, scale: number): Picture {
  const columns = Array.from({ length: width }, (_, x) => neighbours(x, scale, picture.width));
  const result = blank(width, height);
  const stride = 4 * picture.width;
  for (let y = 0, to = 0; y < height; y++) {
    const row = neighbours(y, scale, picture.height);
    for (let x = 0; x < width; x++, to += 4) {
      const column = columns[x];
      for (let channel = 0; channel < 3; channel++) {
        const across = (line: number) =>
          (picture.data[line * stride + 4 * column.first + channel] * (ONE - column.weight) +
            picture.data[line * stride + 4 * column.second + channel] * column.weight) >>
          4;
        const upper = (across(row.first) * (ONE - row.weight)) >> 16;
        const lower = (across(row.second) * row.weight) >> 16;
        result.data[to + channel] = (upper + lower + 2) >> 2;
      }
    }
  }
  return result;
}

/** The two source pixels of a target pixel, and the second one's weight. */
function neighbours(target: number, scale: number, source: number) {
  const centre = Math.fround((target + 0.5) * scale - 0.5);
  const first = Math.floor(centre);
  const inside = (index: number) => Math.min(Math.max(index, 0), source - 1);
  return {
    first: inside(first),
    second: inside(first + 1),
    weight: Math.round((centre - first) * ONE),
  };
}
