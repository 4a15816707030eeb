/** A real Chromium, and `quantface-export demo` serving a copy of a bundle. */
import { type ChildProcess, spawn } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { FOLDER, fixtures } from "../unit/fixtures";

const PHONE = { width: 390, height: 844 };
/** As generous as a busy machine needs; what is waited for takes seconds. */
export const PATIENCE = 240_000;

export function launch(args: readonly string[] = []): Promise<Browser> {
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  return chromium.launch({ executablePath, args: ["--no-sandbox", ...args] });
}

/** A phone: 390x844 at two pixels each, with touch. */
export async function phone(browser: Browser, dark = false): Promise<BrowserContext> {
  const context = await browser.newContext({
    viewport: PHONE,
    deviceScaleFactor: 2,
    hasTouch: true,
    colorScheme: dark ? "dark" : "light",
  });
  context.setDefaultTimeout(PATIENCE);
  return context;
}

export class Server {
  private constructor(
    private readonly process: ChildProcess,
    private readonly folder: string,
    readonly url: string,
  ) {}

  /** The copy of the bundle that is served: a test may damage it. */
  get bundle(): string {
    return join(this.folder, "bundle");
  }

  static async start(): Promise<Server> {
    const { PYTHON = "python3", BUNDLE = "" } = process.env;
    const folder = mkdtempSync(join(tmpdir(), "quantface-web-"));
    cpSync(BUNDLE, join(folder, "bundle"), { recursive: true });
    const told = join(folder, "demo.json");
    const child = spawn(
      PYTHON,
      ["-m", "quantface_export", "demo", join(folder, "bundle"), "--port", "0", "--no-open"].concat(
        ["--json", told],
      ),
      { stdio: "inherit" },
    );
    for (const begun = Date.now(); Date.now() - begun < PATIENCE; await sleep(100)) {
      if (child.exitCode !== null) throw new Error("quantface-export demo ended");
      if (existsSync(told) && readFileSync(told, "utf8").endsWith("}\n")) {
        return new Server(child, folder, JSON.parse(readFileSync(told, "utf8")).url);
      }
    }
    throw new Error("quantface-export demo did not start");
  }

  stop(): void {
    this.process.kill("SIGTERM");
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export function picture(name: string): string {
  return join(FOLDER, name);
}

export async function choose(page: Page, file: string): Promise<void> {
  await page.setInputFiles("#file", file);
}

/** Wait until a photo is restored; the facts below it. */
export async function restored(page: Page): Promise<string> {
  const notice = page.locator("#notice.problem");
  await page.locator("#result:not([hidden])").or(notice).waitFor();
  if (await notice.isVisible()) throw new Error((await notice.textContent()) ?? "");
  return (await page.locator("#facts").textContent()) ?? "";
}

/** The message at the top, once there is one. */
export async function noticed(page: Page): Promise<string> {
  await page.locator("#notice p").waitFor();
  return (await page.locator("#notice p").textContent()) ?? "";
}

/** Wait until everything is stored and the page can do without a network. */
export async function readyOffline(page: Page): Promise<void> {
  await page.getByText("Ready to work offline").waitFor();
  await page.evaluate(() => navigator.serviceWorker.ready);
}

/** Pixels of the photo that “Save the photo” writes, (h, w, 4). */
export async function saved(
  page: Page,
): Promise<{ width: number; height: number; data: number[] }> {
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#save")]);
  const png = readFileSync(await download.path()).toString("base64");
  return page.evaluate(async (base64) => {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const image = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
    const canvas = document.createElement("canvas");
    canvas.width = image.width;
    canvas.height = image.height;
    const context = canvas.getContext("2d");
    context?.drawImage(image, 0, 0);
    const pixels = context?.getImageData(0, 0, image.width, image.height).data ?? [];
    return { width: image.width, height: image.height, data: Array.from(pixels) };
  }, png);
}

/** PSNR of pixels (h, w, 4) against the file `name` of bare RGB. */
export function psnr(data: readonly number[], name: string): number {
  const golden = readFileSync(picture(`${name}.rgb`));
  let sum = 0;
  for (let i = 0; i < golden.length; i++) {
    const level = data[4 * Math.floor(i / 3) + (i % 3)];
    sum += ((level - golden[i]) / 255) ** 2;
  }
  return sum === 0 ? Number.POSITIVE_INFINITY : -10 * Math.log10(sum / golden.length);
}

export { fixtures };
