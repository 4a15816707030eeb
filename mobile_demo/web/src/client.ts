/** The worker as the page sees it. */

import type { Picture } from "./photo/picture";
import { Problem } from "./problem";
import type { About, Reply, Request, Result, Where } from "./protocol";

export interface Listener {
  onAbout(about: About): void;
  onPrepared(): void;
  onProgress(reply: Reply & { readonly kind: "download" | "step" }): void;
}

export class Restorer {
  private worker: Worker | undefined;
  private settle: { resolve(result: Result | undefined): void; reject(e: Error): void } | undefined;

  /** `threads`: undefined takes as many as the device has. */
  constructor(
    private readonly listener: Listener,
    private readonly threads: number | undefined,
  ) {}

  /** Start the worker; `onAbout` is called as soon as the models' list is there. */
  open(): void {
    const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
    worker.onmessage = ({ data }: MessageEvent<Reply>) => this.receive(data);
    worker.onerror = () =>
      this.settle?.reject(new Problem("The page could not start its worker. Reload the page."));
    this.worker = worker;
    this.send({ kind: "open", threads: this.threads });
  }

  /** Fetch all that is needed, so that later no network is. */
  prepare(): void {
    this.send({ kind: "prepare" });
  }

  /** Undefined where no face was found. `photo` is handed over and can't be used afterwards. */
  restore(photo: Picture, where: Where): Promise<Result | undefined> {
    return new Promise((resolve, reject) => {
      this.settle = { resolve, reject };
      this.send({ kind: "restore", photo, where }, [photo.data.buffer]);
    });
  }

  /** Stop at once; the next call begins anew. */
  cancel(): void {
    this.worker?.terminate();
    this.settle = undefined;
    this.open();
  }

  private send(request: Request, transfer: Transferable[] = []): void {
    this.worker?.postMessage(request, transfer);
  }

  private receive(reply: Reply): void {
    if (reply.kind === "about") this.listener.onAbout(reply.about);
    else if (reply.kind === "prepared") this.listener.onPrepared();
    else if (reply.kind === "download" || reply.kind === "step") this.listener.onProgress(reply);
    else if (reply.kind === "result") this.settle?.resolve(reply.result);
    else if (reply.kind === "nobody") this.settle?.resolve(undefined);
    else if (reply.of === "restore") this.settle?.reject(new Problem(reply.message));
  }
}
