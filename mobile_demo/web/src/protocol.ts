/** What the page and its worker say to each other. */
import type { Crop } from "./photo/crop";
import type { Picture } from "./photo/picture";

/** Which squares of a photograph are restored. */
export type Where = "faces" | "middle" | "whole";

/** The steps of a restoration in their order. */
export const STEPS = ["faces", "download", "vre", "vae_encoder", "unet", "vae_decoder"] as const;
export type Step = (typeof STEPS)[number];

export type Request =
  /** The first: say what the models are. */
  | { readonly kind: "open"; readonly threads: number | undefined }
  /** Fetch all that is needed, so that later no network is. */
  | { readonly kind: "prepare" }
  | { readonly kind: "restore"; readonly photo: Picture; readonly where: Where };

export interface About {
  readonly model: string;
  readonly recipe: string;
  readonly size: number;
  /** Of models and runtime together. */
  readonly bytes: number;
  readonly threads: number;
}

export interface Result {
  readonly picture: Picture;
  readonly crops: readonly Crop[];
  /** Of each step; downloads too. */
  readonly seconds: Readonly<Record<Step, number>>;
  /** Most that WebAssembly held. */
  readonly heapBytes: number;
}

export type Reply =
  | { readonly kind: "about"; readonly about: About }
  /** `done` of `total` bytes are here. */
  | { readonly kind: "download"; readonly done: number; readonly total: number }
  | { readonly kind: "prepared" }
  /** A step begins, or goes on with its next face. */
  | { readonly kind: "step"; readonly step: Step; readonly face: number; readonly faces: number }
  | { readonly kind: "nobody" }
  | { readonly kind: "result"; readonly result: Result }
  | { readonly kind: "problem"; readonly of: Request["kind"]; readonly message: string };
