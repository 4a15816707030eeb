import { expect, test } from "vitest";
import { cut, frame, mask, middle, mirrored, paste, whole } from "../../src/photo/crop";
import { blank } from "../../src/photo/picture";
import { difference, fixtures, readPicture } from "./fixtures";

const SIZE = 128;

test.each(fixtures.photos.filter((photo) => photo.boxes.length > 0))(
  "the first face of $name is cut and pasted as in Python",
  ({ name, width, height, boxes }) => {
    const photo = readPicture(name, width, height);
    const [x, y, side, score] = boxes[0];
    const crop = frame({ x, y, side, score });
    const face = cut(photo, crop, SIZE);
    const cutByPython = readPicture(`${name}-cut`, SIZE, SIZE);
    // OpenCV weighs in fixed point: one level off here and there.
    expect(difference(face, cutByPython).largest).toBeLessThanOrEqual(1);
    expect(difference(face, cutByPython).mean).toBeLessThan(0.1);
    for (let i = 0; i < cutByPython.data.length; i++) {
      if (i % 4 < 3) cutByPython.data[i] = 255 - cutByPython.data[i];
    }
    paste(photo, cutByPython, crop);
    const pasted = difference(photo, readPicture(`${name}-pasted`, width, height));
    expect(pasted.largest).toBeLessThanOrEqual(1);
  },
);

test("a pixel without mask keeps its value", () => {
  const photo = blank(40, 30);
  photo.data.fill(7);
  const face = blank(16, 16);
  paste(photo, face, { x: -4, y: 20, side: 16 });
  expect(photo.data[0]).toBe(7);
  expect(photo.data[4 * (27 * 40 + 4)]).toBe(255);
});

test("the mask is 1 in the middle and 0 in the corners", () => {
  expect(mask(50, 50, 101)).toBe(1);
  expect(mask(0, 0, 101)).toBe(0);
});

test("squares of a photograph", () => {
  expect(middle(blank(50, 30))).toEqual({ x: 10, y: 0, side: 30 });
  expect(whole(blank(50, 30))).toEqual({ x: 0, y: -10, side: 50 });
});

test("indices fold without repeating the edge", () => {
  expect([-2, -1, 0, 3, 4, 5, 6, 7].map((i) => mirrored(i, 4))).toEqual([2, 1, 0, 3, 2, 1, 0, 1]);
  expect(mirrored(5, 1)).toBe(0);
});
