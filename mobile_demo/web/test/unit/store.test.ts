import { createHash } from "node:crypto";
import { beforeEach, expect, test, vi } from "vitest";
import type { HashedFile } from "../../src/models/bundle";
import { PART_BYTES, Store } from "../../src/models/store";

/** As much of a browser's Cache as the store uses. */
class MemoryCache {
  readonly kept = new Map<string, Uint8Array<ArrayBuffer>>();

  async match(key: string | URL): Promise<Response | undefined> {
    const bytes = this.kept.get(String(key));
    return bytes && new Response(bytes, { headers: { "Content-Length": String(bytes.length) } });
  }

  async put(key: string | URL, response: Response): Promise<void> {
    this.kept.set(String(key), new Uint8Array(await response.arrayBuffer()));
  }

  async delete(key: string | { url: string }): Promise<boolean> {
    return this.kept.delete(typeof key === "string" ? key : key.url);
  }

  async keys(): Promise<{ url: string }[]> {
    return [...this.kept.keys()].map((url) => ({ url }));
  }
}

const content = Uint8Array.from({ length: 2 * PART_BYTES + 5 }, (_, i) => i % 251);
const file: HashedFile = {
  url: "http://here/bundle/unet/model.onnx.data",
  sha256: createHash("sha256").update(content).digest("hex"),
  bytes: content.length,
};
const ignore = () => {};
let cache: MemoryCache;
let asked: string[];
let served: Uint8Array<ArrayBuffer>;
let ranges: boolean;

beforeEach(() => {
  cache = new MemoryCache();
  asked = [];
  served = content;
  ranges = true;
  vi.stubGlobal("caches", { open: async () => cache });
  vi.stubGlobal("fetch", async (_: string, init: { headers: { Range: string } }) => {
    asked.push(init.headers.Range);
    if (!ranges) return new Response(served);
    const [begin, end] = init.headers.Range.slice(6).split("-").map(Number);
    return new Response(served.slice(begin, end + 1), { status: 206 });
  });
});

test("a file is fetched in parts, counted, and kept whole", async () => {
  const store = await Store.open();
  let count = 0;
  const bytes = await store.get(file, (n) => {
    count += n;
  });
  expect(Buffer.compare(bytes, content)).toBe(0);
  expect(count).toBe(content.length);
  expect(asked.length).toBe(3);
  expect([...cache.kept.keys()]).toEqual([`/sha256/${file.sha256}`]);
  await store.get(file, ignore);
  expect(asked.length).toBe(3);
});

test("a download goes on where it was", async () => {
  await cache.put(`/sha256/${file.sha256}/0`, new Response(content.slice(0, PART_BYTES)));
  await (await Store.open()).get(file, ignore);
  expect(asked[0]).toBe(`bytes=${PART_BYTES}-${2 * PART_BYTES - 1}`);
});

test("a server without ranges sends it whole", async () => {
  ranges = false;
  const bytes = await (await Store.open()).get(file, ignore);
  expect(Buffer.compare(bytes, content)).toBe(0);
  expect(asked.length).toBe(1);
});

test("a changed byte is neither used nor kept", async () => {
  served = content.slice();
  served[PART_BYTES] ^= 1;
  await expect((await Store.open()).get(file, ignore)).rejects.toThrow("unet/model.onnx.data");
  expect(cache.kept.size).toBe(0);
});

test("what changed in the cache is fetched again", async () => {
  await cache.put(`/sha256/${file.sha256}`, new Response(content.slice(1)));
  const bytes = await (await Store.open()).get(file, ignore);
  expect(Buffer.compare(bytes, content)).toBe(0);
});

test("a file that became shorter is refused", async () => {
  served = content.slice(0, -1);
  await expect((await Store.open()).get(file, ignore)).rejects.toThrow("interrupted");
});

test("files of another bundle are deleted, the list is not", async () => {
  await cache.put("http://here/sha256/abc/0", new Response("x"));
  await cache.put(`http://here/sha256/${file.sha256}/0`, new Response("x"));
  await cache.put("http://here/bundle/quantface.json", new Response("{}"));
  await (await Store.open()).keepOnly([file]);
  expect([...cache.kept.keys()]).toEqual([
    `http://here/sha256/${file.sha256}/0`,
    "http://here/bundle/quantface.json",
  ]);
});
