// The traffic audit: each kernel reads and writes each element once, within one percent, as the emulated CUDA device counts it.
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import type { DType } from '../src/index.js';

// Before the addon is looked for.
process.env['LIMBECK_EMULATE_CUDA'] = '1';
const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const isBuilt = existsSync(path.join(root, 'build/Release/limbeck_emulated.node'));

describe.skipIf(!isBuilt)('traffic audit', async () => {
  const audit = await import('./audit.js');
  const { divergenceNames } = await import('../src/losses/divergences.js');
  const direct = divergenceNames.filter((name) => name !== 'adaptive_kl');
  const once = (lines: readonly import('./audit.js').AuditLine[]): void => {
    for (const { what, dtype, cols, counted, least } of lines)
      expect(
        Math.abs(counted / least - 1),
        `${what}, ${dtype}, ${cols}: ${counted} bytes per element instead of ${least}`,
      ).toBeLessThanOrEqual(0.01);
  };

  // A warp, a block, clusters of two, four and eight blocks.
  for (const [dtype, lengths] of [
    ['bfloat16', [1_000, 8_192, 32_000, 128_256]],
    ['float32', [1_000, 8_192, 32_000]],
  ] as [DType, number[]][])
    test(`dense, ${dtype}: every divergence, rows of ${lengths.join(', ')}`, () => {
      once(lengths.flatMap((cols) => direct.map((name) => audit.auditLoss(name, cols, dtype))));
    });

  test('the longest rows: bfloat16 of 262,144, float32 of 128,256', () => {
    once([audit.auditLoss('jensen_shannon', 262_144, 'bfloat16'), audit.auditLoss('reverse_kl', 128_256, 'float32')]);
  });

  for (const dtype of ['bfloat16', 'float32'] as const)
    test(`sparse targets with and without gradient, captured top k, ${dtype}`, () => {
      once(
        [1_000, 32_000, 128_256].flatMap((cols) => [
          audit.auditLoss('forward_kl', cols, dtype, { k: 64 }),
          audit.auditLoss('jensen_shannon', cols, dtype, { k: 64 }),
          audit.auditLoss('forward_kl', cols, dtype, { k: 64, gradient: false }),
          audit.auditCapture(cols, dtype),
        ]),
      );
    });

  // A draw that hits is looked up in the staged row: no byte is read again. Clusters of four and eight blocks.
  for (const dtype of ['bfloat16', 'float32'] as const)
    test(`sampled targets, softmax and its gradient, ${dtype}`, () => {
      const longest = dtype === 'bfloat16' ? [128_256, 151_936, 262_144] : [128_256, 262_144];
      once([
        ...[1_000, 8_192, ...longest].map((cols) => audit.auditSample(cols, dtype)),
        ...(['race', 'head_tail'] as const).flatMap((method) =>
          [1_000, longest.at(-1)!].map((cols) => audit.auditSample(cols, dtype, method)),
        ),
        ...[1_000, 8_192, 128_256].flatMap((cols) => [audit.auditSoftmax(cols, dtype), audit.auditSoftmaxBackward(cols, dtype)]),
      ]);
    });

  test('what a row costs beside its bytes is counted: two exponentials of an element on each side, a cluster', () => {
    const { work } = audit.auditLoss('forward_kl', 128_256, 'bfloat16');
    expect(work.exponentials).toBeGreaterThanOrEqual(4);
    expect(work.exponentials).toBeLessThan(6);
    expect(work.cluster).toBe(8);
    expect(work.clusterBarriers).toBeGreaterThanOrEqual(3);
    const { memory, exponentials, barriers } = audit.roofline(audit.auditLoss('forward_kl', 128_256, 'bfloat16'));
    // KERNELS: 6 bytes an element at nine tenths of the rate; 0.142 ms for each exponential of an element.
    expect(memory).toBeCloseTo(1.046, 2);
    expect(exponentials).toBeCloseTo(0.142 * work.exponentials, 1);
    expect(barriers).toBeGreaterThan(0);
  });

  test('a row that is read twice would be noticed', () => {
    // Longer than eight blocks' shared memory: both sides are read in each of two walks.
    const { counted, least } = audit.auditLoss('forward_kl', 262_144, 'float32');
    expect(counted / least).toBeGreaterThan(1.5);
  });

  test('linearKdLoss reads the logits of an odd vocabulary 16 bytes at a time, like those of an even one', () => {
    const loads = (cols: number, dtype: 'bfloat16' | 'float32'): number => audit.linearLoads(cols, dtype);
    for (const dtype of ['bfloat16', 'float32'] as const) expect(loads(519, dtype)).toBeLessThan(1.1 * loads(520, dtype));
    // The student's part of an interpolated target lies at the logits' own distances.
    expect(audit.linearLoads(519, 'bfloat16', { interpolated: true })).toBeLessThan(1.1 * loads(520, 'bfloat16'));
  });
});
