// The snippet against a bundle's goldens, under the gates of `quantface-export verify`.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { restoreFace } from "./restore.mjs";

const { BUNDLE, FIXTURES } = process.env; // `make web` sets both
const read = (name) => readFileSync(join(FIXTURES, name));
const { size, needed } = JSON.parse(read("fixtures.json"));

// Two goldens: each takes as long as opening the four models.
for (let i = 0; i < 2; i++) {
  test(`golden ${i}`, async () => {
    const restored = await restoreFace(BUNDLE, read(`golden-${i}.rgb`), size);
    const reference = read(`golden-${i}-restored.rgb`);
    const squares = restored.reduce((sum, v, k) => sum + ((v - reference[k]) / 255) ** 2, 0);
    const psnr = -10 * Math.log10(squares / reference.length);
    console.log(`golden ${i}: ${psnr.toFixed(1)} dB, needed ${needed.toFixed(1)} dB`);
    assert.ok(psnr >= needed);
  });
}
