// The comparator itself: NaN never passes, kinds come first, and the worst misses are in the message.
import { describe, expect, test } from 'vitest';
import { expectClose, expectSameBits } from './compare.js';
import { COLS, sizesUpTo } from './sizes.js';

describe('expectClose', () => {
  test('passes within the bound and fails beyond it', () => {
    expect(() => expectClose('x', [1, 2], [1, 2.05], 0.1)).not.toThrow();
    expect(() => expectClose('x', [1, 2], [1, 2.2], 0.1)).toThrow(/1 of 2 values are off/);
  });

  test('NaN passes only for NaN, infinities only for their own sign', () => {
    expect(() => expectClose('x', [NaN], [1], 1e9)).toThrow();
    expect(() => expectClose('x', [1], [NaN], 1e9)).toThrow();
    expect(() => expectClose('x', [NaN], [NaN], 0)).not.toThrow();
    expect(() => expectClose('x', [Infinity], [-Infinity], Infinity)).toThrow();
    expect(() => expectClose('x', [Infinity], [3e38], Infinity)).toThrow();
    expect(() => expectClose('x', [1], [1], NaN)).toThrow();
  });

  test('another length is a failure', () => {
    expect(() => expectClose('x', [], [1], 1)).toThrow(/0 values instead of 1/);
  });

  test('the five worst by how far they miss their bound, with index, values, error and bound', () => {
    const message = ((): string => {
      try {
        expectClose('x', [1, 2, 3, 4, 5, 6, 7], [0, 0, 0, 0, 0, 0, 0], (i) => (i === 0 ? 1e-3 : 1));
        return '';
      } catch (error) {
        return (error as Error).message;
      }
    })();
    expect(message.split('\n')).toHaveLength(6);
    expect(message).toContain('[0] 1 instead of 0: error 1.000e+0, bound 1.000e-3');
    expect(message.split('\n')[1]).toContain('[0]');
  });
});

describe('expectSameBits', () => {
  test('−0 is not +0', () => {
    expect(() => expectSameBits('x', Float32Array.of(-0), Float32Array.of(0))).toThrow(/bits differ first at \[0\]/);
    expect(() => expectSameBits('x', Float32Array.of(1), Float32Array.of(1))).not.toThrow();
  });
});

describe('sizes', () => {
  test('powers of two, three times each, and one more and less', () => {
    expect(sizesUpTo(13)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13]);
    for (const size of [1, 2, 31, 33, 4097]) expect(COLS).toContain(size);
  });
});
