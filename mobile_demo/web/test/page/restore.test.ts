/** The page as a person on a phone uses it. */
import { mkdirSync, readFileSync } from "node:fs";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  choose,
  fixtures,
  launch,
  phone,
  picture,
  psnr,
  readyOffline,
  restored,
  Server,
  saved,
} from "./browser";

const SHOTS = "test-results";
let server: Server;
let browser: Browser;
let context: BrowserContext;
let page: Page;
const said: string[] = [];

beforeAll(async () => {
  mkdirSync(SHOTS, { recursive: true });
  [server, browser] = await Promise.all([Server.start(), launch()]);
  context = await phone(browser);
  page = await context.newPage();
  page.on("console", (message) => {
    if (message.type() === "error") said.push(message.text());
  });
  page.on("pageerror", (error) => said.push(error.message));
  await page.goto(server.url);
});

afterAll(async () => {
  await browser?.close();
  server?.stop();
});

test("the page is isolated, and everything is stored before it is asked for", async () => {
  await page.screenshot({ path: `${SHOTS}/start-light.png` });
  expect(await page.evaluate(() => crossOriginIsolated)).toBe(true);
  await readyOffline(page);
});

test("goldens come out under the gates of verify", async () => {
  await page.check("#whole");
  // Two of them: each takes as long as opening the four models.
  for (let i = 0; i < 2; i++) {
    await choose(page, picture(`golden-${i}.png`));
    await restored(page);
    const { width, height, data } = await saved(page);
    expect([width, height]).toEqual([fixtures.size, fixtures.size]);
    const db = psnr(data, `golden-${i}-restored`);
    console.log(`golden ${i}: ${db.toFixed(1)} dB, needed ${fixtures.needed.toFixed(1)} dB`);
    expect(db).toBeGreaterThanOrEqual(fixtures.needed);
    await page.click("#again");
  }
  await page.uncheck("#whole");
});

test("two threads compute the same", async () => {
  await page.goto(`${server.url}?threads=2`);
  await page.check("#whole");
  await choose(page, picture("golden-0.png"));
  expect(await restored(page)).toContain("2 threads");
  const { data } = await saved(page);
  expect(psnr(data, "golden-0-restored")).toBeGreaterThanOrEqual(fixtures.needed);
  await page.goto(server.url);
});

test("a photo is restored where its face is, and nowhere else", async () => {
  const portrait = fixtures.photos.find(({ name }) => name === "portrait");
  await choose(page, picture("portrait.png"));
  const facts = await restored(page);
  console.log(facts);
  expect(facts).toMatch(/^1 face · [\d.]+ s · [\d.]+ MB of memory · \d+ threads?$/);
  const { width, data } = await saved(page);
  const before = readFileSync(picture("portrait.rgb"));
  const changed = (x: number, y: number) => {
    const i = y * width + x;
    return [0, 1, 2].some((channel) => data[4 * i + channel] !== before[3 * i + channel]);
  };
  const [x, y, side] = portrait?.boxes[0] ?? [0, 0, 0];
  expect(changed(5, 5)).toBe(false);
  expect(changed(500, 300)).toBe(false);
  expect(changed(x + side / 2, y + side / 2)).toBe(true);
});

test("the divider follows fingers, mouse and keys", async () => {
  const value = async () => Number(await page.inputValue("#slider"));
  const box = await page.locator("#compare").boundingBox();
  if (box === null) throw new Error("nothing to compare");
  const middle = box.y + box.height / 2;
  await page.touchscreen.tap(box.x + box.width * 0.25, middle);
  expect(Math.abs((await value()) - 25)).toBeLessThanOrEqual(1);
  await page.mouse.move(box.x + box.width * 0.25, middle);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.8, middle, { steps: 4 });
  await page.mouse.up();
  expect(Math.abs((await value()) - 80)).toBeLessThanOrEqual(1);
  const dragged = await value();
  await page.keyboard.press("ArrowLeft");
  expect(await value()).toBe(dragged - 1);
  await page.keyboard.press("Home");
  expect(await value()).toBe(0);
});

test("it works offline after a reload", async () => {
  await context.setOffline(true);
  server.stop();
  await page.reload();
  await page.click("#sample");
  expect(await restored(page)).toContain("1 face");
  await page.screenshot({ path: `${SHOTS}/result-light.png` });
  await context.setOffline(false);
});

test("nothing was complained about on the console", () => {
  expect(said.filter((line) => !line.includes("ERR_INTERNET_DISCONNECTED"))).toEqual([]);
});
