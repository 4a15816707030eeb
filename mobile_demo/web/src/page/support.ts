/** What a browser must have, said before anything is downloaded. */

/** A function of vector instructions: splat, then a bit count that only SIMD has. */
const SIMD = new Uint8Array([
  ...[0, 97, 115, 109, 1, 0, 0, 0], // magic, version
  ...[1, 5, 1, 96, 0, 1, 123], // type: () -> v128
  ...[3, 2, 1, 0], // function 0 has type 0
  ...[10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11], // i32.const 0, i8x16.splat, i8x16.popcnt
]);

/** Why the page can't work here; undefined if it can. */
export function unsupported(): string | undefined {
  if (typeof WebAssembly === "undefined" || !WebAssembly.validate(SIMD)) {
    return (
      "This browser lacks fast WebAssembly (SIMD), which the models need. Update it, or use a " +
      "current Chrome, Edge, Firefox or Safari (16.4 or newer)."
    );
  }
  if (!isSecureContext) {
    return "Browsers allow this page to store and check models only over https or on localhost.";
  }
  return undefined;
}
