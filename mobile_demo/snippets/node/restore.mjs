// Restore one face with a bundle: four models, one after the other, each let go after use.
import { join } from "node:path";
import { InferenceSession, Tensor } from "onnxruntime-node";

const STAGES = [
  { name: "vre", inputs: ["image"], output: "prompt" },
  { name: "vae_encoder", inputs: ["image"], output: "z" },
  { name: "unet", inputs: ["z", "prompt"], output: "x0" },
  { name: "vae_decoder", inputs: ["x0"], output: "restored" },
];

/** A face crop at the bundle's size, (size, size, 3) bytes of RGB in a row; the same restored. */
export async function restoreFace(bundle, rgb, size) {
  const plane = size * size;
  const input = Float32Array.from({ length: 3 * plane }, (_, i) => {
    return Math.fround(rgb[3 * (i % plane) + Math.floor(i / plane)] / 127.5) - 1;
  });
  const tensors = { image: new Tensor("float32", input, [1, 3, size, size]) };
  for (const { name, inputs, output } of STAGES) {
    const session = await InferenceSession.create(join(bundle, name, "model.onnx"));
    const feeds = Object.fromEntries(inputs.map((key) => [key, tensors[key]]));
    tensors[output] = (await session.run(feeds))[output];
    await session.release();
  }
  const { data } = tensors.restored; // (3, size, size) in [0, 1]
  return Uint8ClampedArray.from(rgb, (_, i) => 255 * data[(i % 3) * plane + Math.floor(i / 3)]);
}
