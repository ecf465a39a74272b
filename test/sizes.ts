// The widths that break kernels: powers of two and their multiples, one less, one more, and odd vocabularies.

/** Powers of two up to `most`, three times each of them, and both ±1; always 1 and 2. */
export function sizesUpTo(most: number): number[] {
  const sizes = new Set([1, 2]);
  for (let power = 2; power <= most; power *= 2)
    for (const base of [power, 3 * power]) for (const size of [base - 1, base, base + 1]) if (size <= most) sizes.add(size);
  return [...sizes].sort((a, b) => a - b);
}

// Under the sanitizers, which are many times slower, each schedule is met once: what they look for does not depend on the numbers.
export const sanitized = process.env['LIMBECK_SANITIZED'] !== undefined;

/** Enough widths to meet every schedule of a back end (lane counts, warps, blocks, staged rows), few enough for each check. */
export const COLS = sanitized
  ? [1, 8, 17, 33, 257, 1025, 4097]
  : [1, 2, 5, 8, 17, 31, 32, 33, 100, 127, 256, 257, 1000, 1024, 1025, 2049, 4096, 4097];

/** A few widths for checks that vary something else: one column, a tail, a block and a bit. */
export const FEW_COLS = [1, 7, 33, 1025];

/** Odd vocabulary (GPT-2) whose rows are never aligned, and a large even one (Llama 3). */
export const ODD_VOCABULARY = 50257;
export const LARGE_VOCABULARY = 128256;

/** Temperatures of the exactness rule (DESIGN.md 4.2). */
export const TEMPERATURES = sanitized ? [0.01, 1, 1e4] : [0.01, 0.05, 0.5, 1, 2, 7.3, 1e3, 1e4];
