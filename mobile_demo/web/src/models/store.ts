/**
 * Files known by their SHA-256: downloaded in parts, checked, and kept in the browser's cache.
 *
 * A finished part survives a reload, so a download goes on where it was. The whole is kept only
 * once its hash is right, and checked again each time before it is used.
 */
import { Problem } from "../problem";
import type { HashedFile } from "./bundle";

const CACHE = "quantface-models";
export const PART_BYTES = 1 << 20;

/** Told how many bytes have just arrived. */
export type OnBytes = (bytes: number) => void;

export class Store {
  private constructor(private readonly cache: Cache) {}

  static async open(): Promise<Store> {
    return new Store(await caches.open(CACHE));
  }

  /** The file's bytes, from the cache or from the network. */
  async get(file: HashedFile, onBytes: OnBytes): Promise<Uint8Array<ArrayBuffer>> {
    const kept = await this.cache.match(key(file));
    if (kept !== undefined) {
      const bytes = new Uint8Array(await kept.arrayBuffer());
      if ((await sha256(bytes)) === file.sha256) {
        onBytes(file.bytes);
        return bytes;
      }
      await this.cache.delete(key(file));
    }
    const bytes = await this.download(file, onBytes);
    const hash = await sha256(bytes);
    if (hash === file.sha256) await this.keep(key(file), bytes);
    await this.forgetParts(file);
    if (hash !== file.sha256) throw changed(file);
    return bytes;
  }

  /** A file without a known hash: from the network, or else as it was the last time. */
  async latest(url: URL): Promise<Response | undefined> {
    const answer = await fetch(url, { cache: "no-cache" }).catch(() => undefined);
    if (answer?.ok !== true) return this.cache.match(url);
    await this.cache.put(url, answer.clone()).catch(() => undefined);
    return answer;
  }

  /** Whether the file needs no network. */
  async has(file: HashedFile): Promise<boolean> {
    return (await this.cache.match(key(file))) !== undefined;
  }

  /** Delete what belongs to none of these files: other bundles, downloads given up. */
  async keepOnly(files: readonly HashedFile[]): Promise<void> {
    const wanted = new Set(files.map((file) => file.sha256));
    for (const request of await this.cache.keys()) {
      const [, hash] = /\/sha256\/(\w+)/.exec(request.url) ?? [];
      if (hash !== undefined && !wanted.has(hash)) await this.cache.delete(request);
    }
  }

  static async clear(): Promise<void> {
    await caches.delete(CACHE);
  }

  private async download(file: HashedFile, onBytes: OnBytes): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = new Uint8Array(file.bytes);
    for (let at = 0; at < file.bytes; at += PART_BYTES) {
      const end = Math.min(at + PART_BYTES, file.bytes);
      const kept = await this.cache.match(key(file, at));
      if (kept !== undefined && kept.headers.get("Content-Length") === String(end - at)) {
        bytes.set(new Uint8Array(await kept.arrayBuffer()), at);
        onBytes(end - at);
        continue;
      }
      const answer = await request(file, at, end);
      const from = answer.status === 206 ? at : 0;
      const count = await read(answer, bytes.subarray(from), from === at ? onBytes : ignore);
      if (from === 0 && count === file.bytes) break; // a server that sends only whole files
      if (count !== end - at) throw interrupted();
      await this.keep(key(file, at), bytes.slice(at, end));
    }
    return bytes;
  }

  /** A browser that has no room left goes on without the cache. */
  private async keep(where: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const headers = { "Content-Length": String(bytes.length) };
    await this.cache.put(where, new Response(bytes, { headers })).catch(() => undefined);
  }

  private async forgetParts(file: HashedFile): Promise<void> {
    for (let at = 0; at < file.bytes; at += PART_BYTES) await this.cache.delete(key(file, at));
  }
}

function ignore(): void {}

function key(file: HashedFile, part?: number): string {
  return part === undefined ? `/sha256/${file.sha256}` : `/sha256/${file.sha256}/${part}`;
}

export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function request(file: HashedFile, begin: number, end: number): Promise<Response> {
  const headers = { Range: `bytes=${begin}-${end - 1}` };
  const answer = await fetch(file.url, { headers, cache: "no-store" }).catch(() => undefined);
  if (answer === undefined) throw interrupted();
  if (answer.status === 416) throw changed(file); // shorter than it was
  if (!answer.ok) {
    throw new Problem(`The server has no ${nameOf(file)} (status ${answer.status}).`);
  }
  return answer;
}

/** Fill `target` with the answer's body; the number of bytes that there were. */
async function read(answer: Response, target: Uint8Array, onBytes: OnBytes): Promise<number> {
  let count = 0;
  try {
    for (const reader = (answer.body ?? new Blob().stream()).getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) return count;
      if (count + value.length > target.length) return Number.POSITIVE_INFINITY;
      target.set(value, count);
      count += value.length;
      onBytes(value.length);
    }
  } catch {
    throw interrupted();
  }
}

function interrupted(): Problem {
  return new Problem(
    "The download was interrupted. Check the connection and try again: it goes on where it was.",
  );
}

function changed(file: HashedFile): Problem {
  return new Problem(
    `The model file ${nameOf(file)} is not the one that was built: its checksum differs. It was ` +
      "not used and not stored. Try again; if that doesn't help, copy the bundle to the server again.",
  );
}

/** The last two parts of its address. */
function nameOf(file: HashedFile): string {
  return file.url.split("/").slice(-2).join("/");
}
