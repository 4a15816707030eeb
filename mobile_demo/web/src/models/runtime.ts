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

/**
 * Threads that are used of those that are wished for, or of the device's.
 *
 * They share memory, which a page may only when it is cross-origin isolated.
 */
export function threadCount(wished?: number): number {
  if (!crossOriginIsolated) return 1;
  return Math.max(1, Math.min(MOST_THREADS, wished ?? navigator.hardwareConcurrency));
}

export function prepareRuntime(wasm: Uint8Array<ArrayBuffer>, threads: number): void {
  ort.env.wasm.wasmPaths = { mjs: new URL(glueUrl, import.meta.url).href };
  ort.env.wasm.wasmBinary = wasm.buffer;
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
}

/** Threads that wait sleep: a phone's cores are not all for this page. */
const SLEEPING = { session: { intra_op: { allow_spinning: "0" } } };

export class Stage {
  private constructor(private readonly session: ort.InferenceSession) {}

  static async open(model: Uint8Array, data: Uint8Array | undefined): Promise<Stage> {
    const externalData = data === undefined ? [] : [{ path: "model.onnx.data", data }];
    const options = { executionProviders: ["wasm"], externalData, extra: SLEEPING };
    return new Stage(await ort.InferenceSession.create(model, options));
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
