/** A picture in memory: rows of red, green, blue, alpha; alpha is 255 everywhere. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8ClampedArray<ArrayBuffer>;
}

export function blank(width: number, height: number): Picture {
  return { width, height, data: new Uint8ClampedArray(4 * width * height).fill(255) };
}

/** Nearest integer, halves to even, as NumPy and OpenCV round. */
export function roundEven(x: number): number {
  const down = Math.floor(x);
  const rest = x - down;
  if (rest !== 0.5) return rest < 0.5 ? down : down + 1;
  return down % 2 === 0 ? down : down + 1;
}
