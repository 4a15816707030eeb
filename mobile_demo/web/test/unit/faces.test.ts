import { describe, expect, test } from "vitest";
import { findFaces } from "../../src/faces/detect";
import { fixtures, readPicture } from "./fixtures";

describe.each(fixtures.photos)("faces in $name", ({ name, width, height, boxes }) => {
  test("are where Python finds them", () => {
    const found = findFaces(readPicture(name, width, height));
    expect(found.length).toBe(boxes.length);
    found.forEach((box, i) => {
      const [x, y, side] = boxes[i];
      // Python looks at a candidate through OpenCV's interpolation, a level off here and there.
      const allowed = Math.max(1, 0.01 * side);
      expect(Math.abs(box.x - x)).toBeLessThanOrEqual(allowed);
      expect(Math.abs(box.y - y)).toBeLessThanOrEqual(allowed);
      expect(Math.abs(box.side - side)).toBeLessThanOrEqual(allowed);
    });
  });
});
