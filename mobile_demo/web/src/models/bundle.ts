/** What `quantface.json` says of the models that lie beside it. */
import { Problem } from "../problem";

/** The stages in the order in which they run, and the tensors that they pass along. */
export const STAGES = [
  { name: "vre", inputs: ["image"], output: "prompt" },
  { name: "vae_encoder", inputs: ["image"], output: "z" },
  { name: "unet", inputs: ["z", "prompt"], output: "x0" },
  { name: "vae_decoder", inputs: ["x0"], output: "restored" },
] as const;

export type StageName = (typeof STAGES)[number]["name"];

/** A file that is known by its hash. */
export interface HashedFile {
  readonly url: string;
  readonly sha256: string;
  readonly bytes: number;
}

export interface Bundle {
  readonly model: string;
  readonly recipe: string;
  /** Side of the square images that it restores, pixels. */
  readonly size: number;
  readonly stages: Record<StageName, { readonly model: HashedFile; readonly data?: HashedFile }>;
}

export const FORMAT_VERSION = 4;

export function readBundle(manifest: Manifest, folder: URL): Bundle {
  if (manifest.format_version !== FORMAT_VERSION) {
    throw new Problem(
      `These models have format ${manifest.format_version}, this page reads ${FORMAT_VERSION}. ` +
        "Build the page or the bundle again.",
    );
  }
  const file = (path: string): HashedFile | undefined => {
    const entry = manifest.files[path];
    return entry && { url: new URL(path, folder).href, ...entry };
  };
  const stages = STAGES.map(({ name }) => {
    const model = file(`${name}/model.onnx`);
    const data = file(`${name}/model.onnx.data`);
    if (model === undefined) throw new Problem(`The model list names no file for ${name}.`);
    return [name, data === undefined ? { model } : { model, data }];
  });
  return {
    model: manifest.model,
    recipe: manifest.recipe.name,
    size: manifest.size,
    stages: Object.fromEntries(stages) as Bundle["stages"],
  };
}

/** The part of `quantface.json` that is used here. */
export interface Manifest {
  readonly format_version: number;
  readonly model: string;
  readonly size: number;
  readonly recipe: { readonly name: string };
  readonly files: Record<string, { readonly sha256: string; readonly bytes: number } | undefined>;
}

export function filesOf(bundle: Bundle): HashedFile[] {
  return Object.values(bundle.stages).flatMap(({ model, data }) =>
    data ? [model, data] : [model],
  );
}
