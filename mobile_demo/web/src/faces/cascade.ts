/**
 * A cascade of boosted stumps on multi-block local binary patterns (Liao et al. 2007), searched
 * over positions and sizes as scikit-image's `Cascade` does: the same float32 sums, so the same
 * windows. The trained numbers are those of its frontal-face cascade (`prepare.py` writes them).
 */
import trained from "../generated/cascade.json";
import { type Box, shared } from "../photo/box";

/** Brightness, one byte a pixel. */
export interface Gray {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8ClampedArray;
}

interface Search {
  /** Ratio of two successive window sizes, > 1. */
  readonly step: number;
  /** Smallest and largest window, pixels. */
  readonly least: number;
  readonly most: number;
  /** Overlapping windows that make a face, from few to many. */
  readonly neighbours: readonly number[];
}

const f32 = Math.fround;
const EPSILON = f32(1e-5);
const SAME_FACE = 0.5;

/** Overlapping windows, averaged: one list of boxes for each of `neighbours`. */
export function search(gray: Gray, { step, least, most, neighbours }: Search): Box[][] {
  const sums = integral(gray);
  const windows: Box[] = [];
  const base = f32(step);
  const log = (side: number) => Math.log(side / trained.size) / Math.log(base);
  for (let power = Math.max(0, log(least)); power < log(most); power++) {
    windows.push(...atScale(sums, gray, f32(base ** f32(power))));
  }
  return neighbours.map((count) => grouped(windows, count));
}

/** (height + 1, width + 1) sums of all pixels above and to the left, in float32. */
function integral({ width, height, data }: Gray): Float32Array {
  const sums = new Float32Array((width + 1) * (height + 1));
  const column = new Float64Array(width);
  for (let y = 0; y < height; y++) {
    let row = 0;
    for (let x = 0; x < width; x++) {
      column[x] += data[y * width + x];
      row += column[x];
      sums[(y + 1) * (width + 1) + x + 1] = row;
    }
  }
  return sums;
}

/** Windows of one size that pass all stages. */
function atScale(sums: Float32Array, { width, height }: Gray, scale: number): Box[] {
  const side = Math.floor(f32(trained.size * scale));
  const step = Math.floor(scale + 0.5);
  const features = Int32Array.from(trained.features.flat(), (v) => Math.floor(f32(v * scale)));
  const found: Box[] = [];
  for (let y = 0; y < height - side; y += step) {
    for (let x = 0; x < width - side; x += step) {
      if (passes(sums, width + 1, y * (width + 1) + x, features)) {
        found.push({ x, y, side, score: 0 });
      }
    }
  }
  return found;
}

function passes(sums: Float32Array, stride: number, origin: number, features: Int32Array): boolean {
  for (const { threshold, stumps } of STAGES) {
    let points = 0;
    for (const { feature, left, right, table } of stumps) {
      const at = origin + features[feature + 1] * stride + features[feature];
      const code = pattern(sums, at, features[feature + 2], features[feature + 3] * stride);
      points = f32(points + ((table[code >> 5] >>> (code & 31)) & 1 ? left : right));
    }
    if (points < threshold) return false;
  }
  return true;
}

/** Which of eight blocks around a ninth are at least as bright, clockwise from the top left. */
function pattern(sums: Float32Array, at: number, across: number, down: number): number {
  const middle = block(sums, at + down + across, across, down);
  const two = 2 * across;
  const low = at + 2 * down;
  return (
    (block(sums, at, across, down) >= middle ? 128 : 0) |
    (block(sums, at + across, across, down) >= middle ? 64 : 0) |
    (block(sums, at + two, across, down) >= middle ? 32 : 0) |
    (block(sums, at + down + two, across, down) >= middle ? 16 : 0) |
    (block(sums, low + two, across, down) >= middle ? 8 : 0) |
    (block(sums, low + across, across, down) >= middle ? 4 : 0) |
    (block(sums, low, across, down) >= middle ? 2 : 0) |
    (block(sums, at + down, across, down) >= middle ? 1 : 0)
  );
}

function block(sums: Float32Array, at: number, across: number, down: number): number {
  const corners = f32(sums[at + down + across] + sums[at]);
  return f32(f32(corners - sums[at + across]) - sums[at + down]);
}

const STAGES = trained.stages.map((stage) => ({
  threshold: f32(f32(stage.threshold) - EPSILON),
  stumps: stage.stumps.map(([feature, left, right, ...table]) => ({
    feature: 4 * feature,
    left: f32(left),
    right: f32(right),
    table: Uint32Array.from(table),
  })),
}));

interface Cluster {
  x: number;
  y: number;
  side: number;
  count: number;
}

/** Windows gathered with the cluster that they share most with, if they share half. */
function grouped(windows: readonly Box[], neighbours: number): Box[] {
  const clusters: Cluster[] = [];
  for (const window of windows) {
    let best: Cluster | undefined;
    let most = SAME_FACE;
    for (const cluster of clusters) {
      const score = shared(window, mean(cluster));
      if (score > most) [best, most] = [cluster, score];
    }
    if (best === undefined) {
      clusters.push({ x: window.x, y: window.y, side: window.side, count: 1 });
    } else {
      best.x += window.x;
      best.y += window.y;
      best.side += window.side;
      best.count += 1;
    }
  }
  return clusters
    .filter((cluster) => cluster.count >= neighbours)
    .map((cluster) => ({ ...mean(cluster), score: neighbours }));
}

function mean({ x, y, side, count }: Cluster): Box {
  return {
    x: Math.trunc(x / count),
    y: Math.trunc(y / count),
    side: Math.trunc(side / count),
    score: 0,
  };
}
