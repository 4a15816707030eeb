/** The camera, of which Chromium can feign one. */
import { expect, test } from "vitest";
import { launch, noticed, phone, Server } from "./browser";

test("a photo is taken with the camera, which is let go afterwards", async () => {
  const server = await Server.start();
  const browser = await launch([
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
  ]);
  try {
    const page = await (await phone(browser)).newPage();
    await page.goto(server.url);
    await page.click("#camera-open");
    await page.locator("#video").waitFor();
    await page.screenshot({ path: "test-results/camera-light.png" });
    await page.click("#shutter");
    // Chromium's picture is a dial, without a face.
    expect(await noticed(page)).toContain("No face was found");
    expect(await page.locator("#video").evaluate((v) => (v as HTMLVideoElement).srcObject)).toBe(
      null,
    );
  } finally {
    await browser.close();
    server.stop();
  }
});
