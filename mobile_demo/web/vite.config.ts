import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

const RUNTIME = createRequire(import.meta.url).resolve(
  "onnxruntime-web/ort-wasm-simd-threaded.wasm",
);

/** What every answer carries; `public/_headers` is the form that static hosts read. */
function headers(): Record<string, string> {
  const lines = readFileSync(new URL("public/_headers", import.meta.url), "utf8").split("\n");
  const pairs = lines.filter((line) => line.startsWith("  ")).map((line) => line.split(/: (.*)/));
  return Object.fromEntries(pairs.map(([name, value]) => [name.trim(), value]));
}

/** The policy inside the page too, for hosts that can't send headers. */
function policy(): Plugin {
  const content = headers()["Content-Security-Policy"].replace(/; frame-ancestors [^;]*/, "");
  const attrs = { "http-equiv": "Content-Security-Policy", content };
  return {
    name: "policy",
    apply: "build",
    transformIndexHtml: () => [{ tag: "meta", attrs, injectTo: "head-prepend" }],
  };
}

/** Tells the service worker what the page consists of; the runtime is cached by its hash. */
function offline(): Plugin {
  return {
    name: "offline",
    apply: "build",
    enforce: "post",
    generateBundle(_, bundle) {
      const emitted = Object.keys(bundle).filter((name) => !/^sw\.js$|\.wasm$/.test(name));
      const files = ["./", "icon.svg", "app.webmanifest", "licenses.txt", ...emitted.sort()];
      const contents = emitted.map((name) => {
        const file = bundle[name];
        return file.type === "chunk" ? file.code : file.source;
      });
      const version = createHash("sha256");
      for (const content of contents) version.update(content);
      const worker = bundle["sw.js"];
      if (worker?.type !== "chunk") throw new Error("src/sw.ts was not built as sw.js");
      worker.code = worker.code
        .replace("__VERSION__", version.digest("hex").slice(0, 12))
        .replace(/["'`]__FILES__["'`]/, JSON.stringify(files));
    },
  };
}

const wasm = readFileSync(RUNTIME);

export default defineConfig({
  base: "./",
  plugins: [policy(), offline()],
  // The runtime's own files stay files: bundled, its threads could not load themselves.
  resolve: { conditions: ["onnxruntime-web-use-extern-wasm", "module", "browser", "import"] },
  worker: { format: "es" },
  define: {
    RUNTIME_SHA256: JSON.stringify(createHash("sha256").update(wasm).digest("hex")),
    RUNTIME_BYTES: wasm.length,
  },
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rollupOptions: {
      input: { index: "index.html", sw: "src/sw.ts" },
      output: {
        entryFileNames: (chunk) => (chunk.name === "sw" ? "sw.js" : "assets/[name]-[hash].js"),
      },
    },
  },
  // Without the policy: in development, Vite's own scripts write styles into the page.
  server: {
    headers: { ...headers(), "Content-Security-Policy": "" },
    proxy: { "/bundle": "http://localhost:8000" },
  },
  test: { testTimeout: 240_000, hookTimeout: 240_000, fileParallelism: false },
});
