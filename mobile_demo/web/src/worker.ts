/** Everything that takes long, away from the page: it stays responsive meanwhile. */
import "./models/heap";
import { threadCount } from "./models/runtime";
import { Supply } from "./models/supply";
import { sentence } from "./problem";
import type { Reply, Request } from "./protocol";
import { restore } from "./restore";

const scope = self as unknown as DedicatedWorkerGlobalScope;
let opened: Promise<Supply> | undefined;
let threads = threadCount();

function say(reply: Reply, transfer: Transferable[] = []): void {
  scope.postMessage(reply, transfer);
}

function supply(): Promise<Supply> {
  opened ??= open().catch((error: unknown) => {
    opened = undefined;
    throw error;
  });
  return opened;
}

async function open(): Promise<Supply> {
  const models = await Supply.open(new URL("../bundle/", scope.location.href), threads);
  const { model, recipe, size } = models.bundle;
  say({ kind: "about", about: { model, recipe, size, bytes: models.bytes, threads } });
  return models;
}

async function answer(request: Request): Promise<void> {
  if (request.kind === "open") {
    threads = threadCount(request.threads);
    await supply();
    return;
  }
  const onBytes = async (done: number) =>
    say({ kind: "download", done, total: (await supply()).bytes });
  if (request.kind === "prepare") {
    await (await supply()).fetchAll(onBytes);
    say({ kind: "prepared" });
    return;
  }
  const result = await restore(request.photo, request.where, supply, {
    onStep: (step, face, faces) => say({ kind: "step", step, face, faces }),
    onBytes,
  });
  if (result === undefined) say({ kind: "nobody" });
  else say({ kind: "result", result }, [result.picture.data.buffer]);
}

scope.onmessage = ({ data }: MessageEvent<Request>) => {
  answer(data).catch((error: unknown) => {
    say({ kind: "problem", of: data.kind, message: sentence(error) });
    console.error(error);
  });
};
