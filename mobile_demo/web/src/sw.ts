/**
 * Service worker: the page works without a network. Models and the runtime are not its business,
 * `models/store.ts` keeps them by their hash.
 */
const scope = self as unknown as ServiceWorkerGlobalScope;

/** Both are filled in by `vite.config.ts`. */
const VERSION = "__VERSION__";
const FILES = "__FILES__" as unknown as readonly string[];

const PREFIX = "quantface-page-";
const CACHE = PREFIX + VERSION;

async function install(): Promise<void> {
  const cache = await caches.open(CACHE);
  await cache.addAll(FILES.map((file) => new Request(file, { cache: "no-cache" })));
  await scope.skipWaiting();
}

async function activate(): Promise<void> {
  const stale = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== CACHE);
  await Promise.all(stale.map((name) => caches.delete(name)));
  await scope.clients.claim();
}

async function fromCache(request: Request): Promise<Response> {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(request, { ignoreSearch: request.mode === "navigate" });
  return kept ?? fetch(request);
}

scope.addEventListener("install", (event) => event.waitUntil(install()));
scope.addEventListener("activate", (event) => event.waitUntil(activate()));
scope.addEventListener("fetch", (event) => {
  const { request } = event;
  const { origin, pathname } = new URL(request.url);
  if (request.method !== "GET" || origin !== scope.location.origin) return;
  if (!pathname.includes("/bundle/")) event.respondWith(fromCache(request));
});
