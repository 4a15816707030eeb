/** What goes wrong, and what a person is told then. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { choose, launch, noticed, phone, picture, readyOffline, restored, Server } from "./browser";

const UNET = "unet/model.onnx.data";
let server: Server;
let browser: Browser;
let context: BrowserContext;
let page: Page;
let folder: string;

beforeAll(async () => {
  [server, browser] = await Promise.all([Server.start(), launch()]);
  folder = mkdtempSync(join(tmpdir(), "quantface-web-"));
});

beforeEach(async () => {
  context = await phone(browser, true);
  page = await context.newPage();
});

afterEach(() => context.close());

afterAll(async () => {
  await browser?.close();
  server?.stop();
  rmSync(folder, { recursive: true, force: true });
});

function file(name: string, content: string | Uint8Array): string {
  writeFileSync(join(folder, name), content);
  return join(folder, name);
}

test("a model file with a changed byte is refused, and the right one taken afterwards", async () => {
  const path = join(server.bundle, UNET);
  const right = readFileSync(path);
  const wrong = Uint8Array.from(right);
  wrong[right.length >> 1] ^= 1;
  writeFileSync(path, wrong);
  await page.goto(server.url);
  await page.check("#whole");
  await choose(page, picture("golden-0.png"));
  expect(await noticed(page)).toMatch(/unet\/model\.onnx\.data is not the one that was built/);
  await page.screenshot({ path: "test-results/problem-dark.png" });
  writeFileSync(path, right);
  await page.getByRole("button", { name: "Try again" }).click();
  expect(await restored(page)).toContain("1 face");
  await page.screenshot({ path: "test-results/result-dark.png" });
});

test("a page reloaded in the middle of a download goes on where it was", async () => {
  const asked: string[] = [];
  let hangs = true;
  await context.route(`**/${UNET}`, async (route) => {
    const range = route.request().headers().range ?? "";
    asked.push(range);
    if (hangs && !range.startsWith("bytes=0-")) return;
    await route.continue();
  });
  await page.goto(server.url);
  await expect.poll(() => asked.length, { timeout: 60_000 }).toBe(2);
  hangs = false;
  await page.reload();
  await readyOffline(page);
  expect(asked[0]).toBe("bytes=0-1048575");
  expect(asked[2]).toBe("bytes=1048576-2097151");
  const keys = await page.evaluate(async () =>
    (await (await caches.open("quantface-models")).keys()).map(({ url }) => new URL(url).pathname),
  );
  expect(keys.filter((key) => /\/\d+$/.test(key))).toEqual([]);
});

test("a photo without a face: the middle is offered", async () => {
  await page.goto(server.url);
  await choose(page, picture("nobody.png"));
  expect(await noticed(page)).toContain("No face was found");
  await page.getByRole("button", { name: "Use the middle of the photo" }).click();
  await page.locator("#working").waitFor();
  await page.click("#cancel");
  expect(await page.isVisible("#start")).toBe(true);
});

test("a photo of 50 megapixels is made smaller", async () => {
  await page.goto(server.url);
  await choose(page, picture("huge.jpg"));
  expect(await noticed(page)).toMatch(/has 50 megapixels.*made smaller, to 4000 × 4000/);
  expect(await page.isVisible("#working")).toBe(true);
});

test.each([
  ["film.mp4", "\0\0\0\x18ftypisom", "is a video. Pause it"],
  ["film.webm", "\x1aE\xdf\xa3webm", "is a video. Pause it"],
  ["phone.heic", "\0\0\0\x18ftypheic", "HEIC"],
  ["broken.jpg", "\xff\xd8\xff\xe0 and nothing else", "can't be read as a photo"],
  ["empty.png", "", "is empty"],
  ["paper.pdf", "%PDF-1.7", "is a PDF"],
])("%s gets a message", async (name, content, message) => {
  await page.goto(server.url);
  await choose(page, file(name, Buffer.from(content, "latin1")));
  expect(await noticed(page)).toContain(message);
  expect(await page.isVisible("#start")).toBe(true);
});

test("no permission for the camera", async () => {
  await page.addInitScript(() => {
    navigator.mediaDevices.getUserMedia = () =>
      Promise.reject(new DOMException("denied", "NotAllowedError"));
  });
  await page.goto(server.url);
  await page.click("#camera-open");
  expect(await noticed(page)).toContain("The camera is blocked");
});

test("no camera at all", async () => {
  await page.goto(server.url);
  await page.click("#camera-open");
  expect(await noticed(page)).toMatch(/No camera was found|camera is blocked/);
});

test("a browser without SIMD is told so at once", async () => {
  await page.addInitScript(() => {
    WebAssembly.validate = () => false;
  });
  await page.goto(server.url);
  expect(await noticed(page)).toContain("SIMD");
  expect(await page.locator("#start").evaluate((section) => (section as HTMLElement).inert)).toBe(
    true,
  );
});
