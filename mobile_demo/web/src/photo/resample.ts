/**
 * Resizing with OpenCV's definitions of area and cubic, so that a crop made here is the
 * crop that `quantface-export restore` makes. Each is separable: rows, then columns, both a list
 * of weighted source pixels per target pixel.
 */
import { blank, type Picture } from "./picture";

export type Method = "area" | "cubic";

/** For each target pixel, `count` source pixels and their weights. */
interface Taps {
  readonly count: number;
  readonly index: Int32Array;
  readonly weight: Float32Array;
}

/** Slope of OpenCV's cubic at distance 1. */
const SLOPE = -0.75;

/** `scale`: source pixels per target pixel, where it isn't the ratio of the two sizes. */
export function resample(
  picture: Picture,
  width: number,
  height: number,
  method: Method,
  scale?: number,
): Picture {
  const columns = taps(picture.width, width, method, scale ?? picture.width / width);
  const rows = taps(picture.height, height, method, scale ?? picture.height / height);
  const narrow = alongRows(picture, width, columns);
  const result = blank(width, height);
  const stride = 3 * width;
  const sums = new Float32Array(stride);
  for (let y = 0; y < height; y++) {
    sums.fill(0);
    for (let k = y * rows.count; k < (y + 1) * rows.count; k++) {
      const from = rows.index[k] * stride;
      const weight = rows.weight[k];
      if (weight === 0) continue;
      for (let i = 0; i < stride; i++) sums[i] += weight * narrow[from + i];
    }
    // The clamped array rounds, halves to even.
    for (let i = 0, to = 4 * y * width; i < stride; i += 3, to += 4) {
      result.data[to] = sums[i];
      result.data[to + 1] = sums[i + 1];
      result.data[to + 2] = sums[i + 2];
    }
  }
  return result;
}

/** (height, width, 3): the picture with its rows at the new width. */
function alongRows(picture: Picture, width: number, columns: Taps): Float32Array {
  const narrow = new Float32Array(3 * width * picture.height);
  for (let y = 0, to = 0; y < picture.height; y++) {
    const start = 4 * y * picture.width;
    for (let x = 0; x < width; x++, to += 3) {
      let red = 0;
      let green = 0;
      let blue = 0;
      for (let k = x * columns.count; k < (x + 1) * columns.count; k++) {
        const from = start + 4 * columns.index[k];
        const weight = columns.weight[k];
        red += weight * picture.data[from];
        green += weight * picture.data[from + 1];
        blue += weight * picture.data[from + 2];
      }
      narrow[to] = red;
      narrow[to + 1] = green;
      narrow[to + 2] = blue;
    }
  }
  return narrow;
}

function taps(source: number, target: number, method: Method, scale: number): Taps {
  const count = method === "area" ? Math.ceil(scale) + 1 : 4;
  const index = new Int32Array(target * count);
  const weight = new Float32Array(target * count);
  for (let i = 0; i < target; i++) {
    const weights = method === "area" ? cover(i * scale, (i + 1) * scale, source) : curve(i, scale);
    weights.values.forEach((value, k) => {
      index[i * count + k] = Math.min(Math.max(weights.first + k, 0), source - 1);
      weight[i * count + k] = value;
    });
  }
  return { count, index, weight };
}

interface Weights {
  readonly first: number;
  readonly values: number[];
}

/** The part of [begin, end) that each source pixel covers. */
function cover(begin: number, end: number, source: number): Weights {
  const stop = Math.min(end, source);
  const first = Math.floor(begin + 1e-3);
  const last = Math.max(first, Math.ceil(stop - 1e-3) - 1);
  const values: number[] = [];
  for (let pixel = first; pixel <= last; pixel++) {
    values.push((Math.min(stop, pixel + 1) - Math.max(begin, pixel)) / (stop - begin));
  }
  return { first, values };
}

function curve(i: number, scale: number): Weights {
  const centre = (i + 0.5) * scale - 0.5;
  const floor = Math.floor(centre);
  const t = centre - floor;
  const near = (x: number) => ((SLOPE + 2) * x - (SLOPE + 3)) * x * x + 1;
  const far = (x: number) => ((SLOPE * x - 5 * SLOPE) * x + 8 * SLOPE) * x - 4 * SLOPE;
  return { first: floor - 1, values: [far(1 + t), near(t), near(1 - t), far(2 - t)] };
}
