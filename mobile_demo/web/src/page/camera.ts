/** A photograph from the camera, in a dialog with a live picture. */
import { paper } from "../photo/read";
import { Problem } from "../problem";
import { button, element } from "./elements";

type Facing = "user" | "environment";

export class Camera {
  private readonly dialog = element("camera", HTMLDialogElement);
  private readonly video = element("video", HTMLVideoElement);
  private facing: Facing = "user";
  private taken: ((canvas: HTMLCanvasElement) => void) | undefined;

  constructor() {
    button("camera-close").addEventListener("click", () => this.dialog.close());
    button("camera-turn").addEventListener("click", () => void this.turn());
    button("shutter").addEventListener("click", () => this.shoot());
    this.dialog.addEventListener("close", () => this.stop());
  }

  /** Open the camera; `taken` gets the photo, if one is taken. */
  async open(taken: (canvas: HTMLCanvasElement) => void): Promise<void> {
    await this.start();
    this.taken = taken;
    this.dialog.showModal();
    button("shutter").focus();
  }

  private async start(): Promise<void> {
    this.stop();
    if (navigator.mediaDevices === undefined) {
      throw new Problem(
        "The camera works only over https or on localhost. Choose a photo instead.",
      );
    }
    try {
      const size = { width: { ideal: 1920 }, height: { ideal: 1080 } };
      const video = { facingMode: this.facing, ...size };
      this.video.srcObject = await navigator.mediaDevices.getUserMedia({ video });
    } catch (error) {
      throw new Problem(reason(error));
    }
    this.video.classList.toggle("mirrored", this.facing === "user");
    await this.video.play();
  }

  private async turn(): Promise<void> {
    this.facing = this.facing === "user" ? "environment" : "user";
    await this.start().catch(() => this.dialog.close());
  }

  private shoot(): void {
    const canvas = document.createElement("canvas");
    canvas.width = this.video.videoWidth;
    canvas.height = this.video.videoHeight;
    paper(canvas).drawImage(this.video, 0, 0);
    const { taken } = this;
    this.dialog.close();
    taken?.(canvas);
  }

  private stop(): void {
    const stream = this.video.srcObject;
    if (stream instanceof MediaStream) for (const track of stream.getTracks()) track.stop();
    this.video.srcObject = null;
  }
}

function reason(error: unknown): string {
  const name = error instanceof DOMException ? error.name : "";
  if (name === "NotAllowedError") {
    return "The camera is blocked. Allow it for this page beside the address, or choose a photo.";
  }
  if (name === "NotFoundError" || name === "OverconstrainedError") {
    return "No camera was found. Choose a photo instead.";
  }
  return "The camera can't be used; another program may have it. Close that, or choose a photo.";
}
