/** Filled in by `vite.config.ts`. */
declare const RUNTIME_SHA256: string;
declare const RUNTIME_BYTES: number;
