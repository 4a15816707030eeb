/**
 * Find upright frontal faces: `quantface_export/photo/cascade.py` in TypeScript.
 *
 * The cascade compares brightness only, so now and then it takes a pattern for a face. Each
 * candidate is therefore looked at again, enlarged, as it is and mirrored, twice; how
 * persistently it is found then decides, and less is asked of one that has the colour of skin.
 */
import { type Box, centre, overlap, suppress } from "../photo/box";
import { mirrored } from "../photo/crop";
import { type Picture, roundEven } from "../photo/picture";
import { resample } from "../photo/resample";
import { type Gray, search } from "./cascade";
import { average, colourfulness, skin, toChroma, toGray } from "./colour";
import { enlarge } from "./enlarge";

/** The photograph's longer side is resized to this many pixels. */
const WORKING_SIDE = 720;
/** Smallest face, as a part of the longer side. */
const SMALLEST = 0.05;
const STEP = 1.1;
/** Overlapping hits that make a candidate. */
const HITS = 4;
/** Pixels that a candidate's side is resized to for the second look. */
const LOOK = 64;
/** Overlapping hits asked of the second look, one after the other. */
const PERSISTENCE = [1, 4, 8, 12, 16, 24];
/** Persistence, of 48, asked of a skin-coloured box, in a gray photograph, and of other boxes. */
const CERTAIN = { skin: 8, gray: 20, odd: 30 };
/** Mean distance from gray up to which a photograph has no colour. */
const COLOURLESS = 4;
/** Mean chroma of photographs of people in neutral light. */
const TYPICAL = [4, -4] as const;
/** Side of a brow-to-chin box over that of the cascade's. */
const REACH = 1.07;

/** One box per face in the photograph's pixels, largest first. */
export function findFaces(photo: Picture): Box[] {
  const factor = WORKING_SIDE / Math.max(photo.width, photo.height);
  const width = roundEven(photo.width * factor);
  const height = roundEven(photo.height * factor);
  const small =
    factor < 1
      ? resample(photo, width, height, "area", 1 / factor)
      : enlarge(photo, width, height, 1 / factor);
  const gray = toGray(small);
  const [found] = search(gray, {
    step: STEP,
    least: Math.max(24, roundEven(SMALLEST * WORKING_SIDE)),
    most: Math.min(gray.width, gray.height),
    neighbours: [HITS],
  });
  const needed = persistenceNeeded(small, found);
  const faces = found
    .map((box) => lookAgain(gray, lookAgain(gray, box, PERSISTENCE.slice(0, 2)), PERSISTENCE))
    .filter((look, i) => look.score >= needed[i])
    .map((look) => browToChin(look, factor));
  return suppress(faces, 0.4);
}

function persistenceNeeded(small: Picture, boxes: readonly Box[]): number[] {
  const chroma = toChroma(small);
  if (colourfulness(chroma) < COLOURLESS) return boxes.map(() => CERTAIN.gray);
  // A colour cast moves skin out of its range; what the mean says of the cast moves it back.
  const [red, blue] = average(chroma);
  const cast: [number, number] = [TYPICAL[0] - red, TYPICAL[1] - blue];
  return boxes.map((box) => {
    const likely = Math.max(skin(chroma, box, [0, 0]), skin(chroma, box, cast));
    return likely > 0.3 ? CERTAIN.skin : CERTAIN.odd;
  });
}

/** The box where it is seen, on average, and as a score how many hits it withstands. */
function lookAgain(gray: Gray, box: Box, levels: readonly number[]): Box {
  const expected: Box = { x: LOOK / 2, y: LOOK / 2, side: LOOK, score: 0 };
  const seen: Box[] = [];
  let score = 0;
  for (const mirrors of [false, true]) {
    const lists = search(view(gray, box, mirrors), {
      step: 1.1,
      least: roundEven(0.7 * LOOK),
      most: roundEven(1.45 * LOOK),
      neighbours: levels,
    });
    let best: Box | undefined;
    for (const hits of lists) {
      const hit = closest(hits, expected);
      if (hit === undefined || overlap(hit, expected) <= 0.4) break;
      best = hit;
    }
    if (best === undefined) return { ...box, score: 0 };
    seen.push(mirrors ? { ...best, x: 2 * LOOK - best.x - best.side } : best);
    score += best.score;
  }
  const scale = box.side / LOOK;
  const mean = (of: (hit: Box) => number) => (scale * seen.reduce((s, b) => s + of(b), 0)) / 2;
  return {
    x: roundEven(box.x - box.side / 2 + mean((hit) => hit.x)),
    y: roundEven(box.y - box.side / 2 + mean((hit) => hit.y)),
    side: roundEven(mean((hit) => hit.side)),
    score,
  };
}

function closest(hits: readonly Box[], expected: Box): Box | undefined {
  let best: Box | undefined;
  for (const hit of hits) {
    if (best === undefined || overlap(hit, expected) > overlap(best, expected)) best = hit;
  }
  return best;
}

/** The box with as much again around it, at `LOOK` pixels a side. */
function view(gray: Gray, box: Box, mirrors: boolean): Gray {
  const side = 2 * LOOK;
  const data = new Uint8ClampedArray(side * side);
  const step = box.side / LOOK;
  const [x, y] = centre(box);
  for (let row = 0; row < side; row++) {
    for (let column = 0; column < side; column++) {
      const to = row * side + (mirrors ? side - 1 - column : column);
      data[to] = between(gray, x + (column - LOOK) * step, y + (row - LOOK) * step);
    }
  }
  return { width: side, height: side, data };
}

/** Bilinear; beyond the edge the picture is mirrored. */
function between({ width, height, data }: Gray, x: number, y: number): number {
  const left = Math.floor(x);
  const top = Math.floor(y);
  const at = (row: number, column: number) =>
    data[mirrored(row, height) * width + mirrored(column, width)];
  const mix = (row: number) => at(row, left) + (x - left) * (at(row, left + 1) - at(row, left));
  const upper = mix(top);
  return upper + (y - top) * (mix(top + 1) - upper);
}

/** The cascade's box, which ends above the chin, in the photograph's pixels. */
function browToChin(box: Box, factor: number): Box {
  const side = REACH * box.side;
  const [x, y] = centre(box);
  return {
    x: roundEven((x - side / 2) / factor),
    y: roundEven((y - side / 2) / factor),
    side: roundEven(side / factor),
    score: box.score,
  };
}
