/** What a person is meant to read: what is wrong, and what to do. */
export class Problem extends Error {
  override readonly name = "Problem";
}

export function sentence(error: unknown): string {
  if (error instanceof Problem) return error.message;
  const what = error instanceof Error ? error.message : String(error);
  if (/memory|allocation/i.test(what)) {
    return "This device ran out of memory. Close other tabs, or use a smaller photo.";
  }
  return `Something went wrong that should not: ${what}. Reload the page and try again.`;
}
