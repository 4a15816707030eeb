import { expect, test } from "vitest";
import { FORMAT_VERSION, type Manifest, readBundle, STAGES } from "../../src/models/bundle";
import { blank, roundEven } from "../../src/photo/picture";
import { toInput, toPicture } from "../../src/photo/pixels";

test("halves are rounded to even", () => {
  expect([-1.5, -0.5, 0.5, 1.5, 2.5, 2.6].map((x) => roundEven(x) + 0)).toEqual([
    -2, 0, 0, 2, 2, 3,
  ]);
});

test("levels become -1 to 1 by channel, and 0 to 1 becomes levels", () => {
  const picture = blank(2, 1);
  picture.data.set([0, 255, 51, 255, 255, 0, 102, 255]);
  const input = toInput(picture);
  expect(input[0]).toBe(-1);
  expect(input[1]).toBe(1);
  expect(input[4]).toBeCloseTo(-0.6, 6);
  const restored = toPicture(Float32Array.of(0, 0.5, 1, 1.2, -0.1, 0.2, 0, 0, 0, 0, 0, 1), 2);
  expect([...restored.data.slice(0, 8)]).toEqual([0, 0, 0, 255, 128, 51, 0, 255]);
});

const folder = new URL("http://here/bundle/");
const entry = { sha256: "0", bytes: 1 };
const manifest: Manifest = {
  format_version: FORMAT_VERSION,
  model: "nano",
  size: 128,
  recipe: { name: "w4a4" },
  files: Object.fromEntries(STAGES.map(({ name }) => [`${name}/model.onnx`, entry])),
};

test("a manifest names the files of all stages", () => {
  const { stages } = readBundle(manifest, folder);
  expect(stages.unet).toEqual({ model: { url: "http://here/bundle/unet/model.onnx", ...entry } });
});

test("other formats and missing stages are refused", () => {
  const newer = FORMAT_VERSION + 1;
  expect(() => readBundle({ ...manifest, format_version: newer }, folder)).toThrow(
    `format ${newer}`,
  );
  expect(() => readBundle({ ...manifest, files: {} }, folder)).toThrow("no file for vre");
});
