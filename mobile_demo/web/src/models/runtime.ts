/** ONNX Runtime in WebAssembly: opens a stage, runs it, lets it go. */

import glueUrl from "onnxruntime-web/ort-wasm-simd-threaded.mjs?url";
import wasmUrl from "onnxruntime-web/ort-wasm-simd-threaded.wasm?url";
import * as ort from "onnxruntime-web/wasm";
import type { HashedFile } from "./bundle";

/** More don't help models of this size. */
const MOST_THREADS = 8;

export type Tensor = ort.Tensor;

/** The WebAssembly file itself: by far the largest of the page, and kept like a model. */
export const RUNTIME: HashedFile = {
  url: new URL(wasmUrl, import.meta.url).href,
  sha256: RUNTIME_SHA256,
  bytes: RUNTIME_BYTES,
};

/** Threads share memory, which a page may only when it is cross-origin isolated. */
export const THREADS = crossOriginIsolated
  ? Math.max(1, Math.min(MOST_THREADS, navigator.hardwareConcurrency))
  : 1;

export function prepareRuntime(wasm: Uint8Array<ArrayBuffer>): void {
  ort.env.wasm.wasmPaths = { mjs: new URL(glueUrl, import.meta.url).href };
  ort.env.wasm.wasmBinary = wasm.buffer;
  ort.env.wasm.numThreads = THREADS;
  ort.env.logLevel = "error";
}

export class Stage {
  private constructor(private readonly session: ort.InferenceSession) {}

  static async open(model: Uint8Array, data: Uint8Array | undefined): Promise<Stage> {
    const externalData = data === undefined ? [] : [{ path: "model.onnx.data", data }];
    return new Stage(
      await ort.InferenceSession.create(model, { executionProviders: ["wasm"], externalData }),
    );
  }

  /** Its one output. */
  async run(inputs: Record<string, Tensor>): Promise<Tensor> {
    const outputs = await this.session.run(inputs);
    return outputs[this.session.outputNames[0]];
  }

  async release(): Promise<void> {
    await this.session.release();
  }
}

export function imageTensor(data: Float32Array, size: number): Tensor {
  return new ort.Tensor("float32", data, [1, 3, size, size]);
}
