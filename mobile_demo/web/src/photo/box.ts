/** A square around a face, brow to chin; it may reach beyond the photograph. */
export interface Box {
  readonly x: number;
  readonly y: number;
  readonly side: number;
  readonly score: number;
}

export function centre(box: Box): [number, number] {
  return [box.x + box.side / 2, box.y + box.side / 2];
}

function common(a: Box, b: Box): number {
  const width = Math.min(a.x + a.side, b.x + b.side) - Math.max(a.x, b.x);
  const height = Math.min(a.y + a.side, b.y + b.side) - Math.max(a.y, b.y);
  return Math.max(0, width) * Math.max(0, height);
}

/** Shared area over united area, 0..1. */
export function overlap(a: Box, b: Box): number {
  const both = common(a, b);
  return both / (a.side ** 2 + b.side ** 2 - both);
}

/** Shared area over the smaller box's area: 1 where one lies inside the other. */
export function shared(a: Box, b: Box): number {
  return common(a, b) / Math.min(a.side, b.side) ** 2;
}

/** The best box of each face, largest first; boxes that share more than `limit` are one face. */
export function suppress(boxes: readonly Box[], limit: number): Box[] {
  const best = [...boxes].sort(
    (a, b) => b.score - a.score || b.side - a.side || a.x - b.x || a.y - b.y,
  );
  const kept: Box[] = [];
  for (const box of best) {
    if (kept.every((better) => shared(box, better) <= limit)) kept.push(box);
  }
  return kept.sort((a, b) => b.side - a.side || a.y - b.y || a.x - b.x);
}
