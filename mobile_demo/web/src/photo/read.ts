/** A photograph file as pixels, upright, on white, and no larger than a phone can hold. */
import { Problem } from "../problem";
import type { Picture } from "./picture";

/** The largest canvas that every phone can make. */
export const MOST_PIXELS = 16_000_000;
const SMALLEST_SIDE = 16;

export interface Photo {
  readonly canvas: HTMLCanvasElement;
  /** File name without its extension. */
  readonly name: string;
  /** Size in the file, where it had to be made smaller. */
  readonly shrunkFrom?: { readonly width: number; readonly height: number };
}

export async function readPhoto(file: File): Promise<Photo> {
  if (file.size === 0) throw new Problem(`“${file.name}” is empty. Pick another photo.`);
  const other = await foreign(file);
  if (other !== undefined) throw new Problem(`“${file.name}” is ${other}`);
  const url = URL.createObjectURL(file);
  try {
    const image = await load(url, file.name);
    return { name: file.name.replace(/\.[^.]*$/, "") || "photo", ...draw(image, file.name) };
  } finally {
    URL.revokeObjectURL(url);
  }
}

function load(url: string, name: string): Promise<HTMLImageElement> {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () =>
      reject(
        new Problem(`“${name}” can't be read as a photo: it is damaged or of an unknown format.`),
      );
    image.src = url;
  });
}

function draw(image: HTMLImageElement, name: string): Omit<Photo, "name"> {
  const { naturalWidth: width, naturalHeight: height } = image;
  if (Math.min(width, height) < SMALLEST_SIDE) {
    throw new Problem(`“${name}” is only ${width} × ${height} pixels. Pick a larger photo.`);
  }
  const factor = Math.min(1, Math.sqrt(MOST_PIXELS / (width * height)));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.floor(width * factor));
  canvas.height = Math.max(1, Math.floor(height * factor));
  const context = paper(canvas);
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  return factor < 1 ? { canvas, shrunkFrom: { width, height } } : { canvas };
}

/** A canvas's context, white, kept where its pixels can be read fast. */
export function paper(canvas: HTMLCanvasElement): CanvasRenderingContext2D {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (context === null) {
    throw new Problem("The browser has no memory left for a picture. Close other tabs.");
  }
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  return context;
}

export function pixelsOf(canvas: HTMLCanvasElement): Picture {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (context === null) throw new Error("a canvas lost its context");
  const { width, height } = canvas;
  const { data } = context.getImageData(0, 0, width, height);
  return { width, height, data };
}

export function toCanvas({ width, height, data }: Picture): HTMLCanvasElement {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  paper(canvas).putImageData(new ImageData(data, width, height), 0, 0);
  return canvas;
}

/** What a file is that this browser can't show, and what to do; undefined if it may be a photo. */
async function foreign(file: File): Promise<string | undefined> {
  const head = new Uint8Array(await file.slice(0, 16).arrayBuffer());
  const text = String.fromCharCode(...head);
  const brand = text.slice(4, 8) === "ftyp" ? text.slice(8, 12) : "";
  const video =
    "a video. Pause it where the face is clear, take a screenshot, and pick that instead.";
  if (/^(heic|heix|hevc|mif1|msf1)$/.test(brand)) return showsHeic() ? undefined : HEIC;
  if (brand === "avif" || brand === "avis") return undefined;
  if (brand !== "" || file.type.startsWith("video/")) return video;
  if (text.startsWith("\x1aE\xdf\xa3") || /^RIFF....AVI /s.test(text)) return video;
  if (text.startsWith("%PDF"))
    return "a PDF. Take a screenshot of the page, and pick that instead.";
  if (text.startsWith("PK")) return "a zip archive. Unpack it, and pick a photo from it.";
  return undefined;
}

const HEIC =
  "an HEIC photo, which this browser can't open. Export it as JPEG, or open this page in Safari.";

function showsHeic(): boolean {
  return /^((?!chrom|android).)*safari/i.test(navigator.userAgent);
}
