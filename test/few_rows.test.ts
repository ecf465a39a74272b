// A row's bits do not depend on how many rows there are: on CUDA few rows have several blocks to a run, which must not show.
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { DType, Tensor } from '../src/index.js';
import { normals } from './random.js';

// Before the addon is looked for.
process.env['LIMBECK_EMULATE_CUDA'] = '1';
const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const isBuilt = existsSync(path.join(root, 'build/Release/limbeck_emulated.node'));

describe.skipIf(!isBuilt)('few rows', async () => {
  const { kdLoss, sampleTarget, softmax, tensor } = await import('../src/index.js');
  const { native } = await import('../src/native.js');
  const audit = await import('./audit.js');
  const emulator = native().emulator!;
  const MOST = 17;

  // On 16 multiprocessors one, three and five rows get clusters of 8, 4 and 2 blocks where one would do, and 17 rows one block each.
  beforeEach(() => emulator.configure({ multiprocessors: 16 }));
  afterEach(() => emulator.configure({ multiprocessors: 1 }));

  /** The first `rows` rows of one and the same matrix. */
  const matrix = (seed: number, rows: number, cols: number, dtype: DType, requiresGrad = false): Tensor => {
    const x = tensor(normals(seed, MOST * cols, 2).slice(0, rows * cols), { shape: [rows, cols], device: 'cuda' }).cast(dtype);
    x.requiresGrad = requiresGrad;
    return x;
  };
  const numbers = async (x: Tensor): Promise<Float32Array> => (await x.cast('float32').read()) as Float32Array;
  const withGradient = async (student: Tensor, loss: Tensor): Promise<Float32Array[]> => {
    loss.backward(tensor(new Float32Array(loss.shape[0]!).fill(1), { device: 'cuda' }));
    return [await numbers(loss), await numbers(student.grad!)];
  };
  const kernels: Record<string, (rows: number, cols: number, dtype: DType) => Promise<Float32Array[]>> = {
    dense(rows, cols, dtype) {
      const student = matrix(1, rows, cols, dtype, true);
      const labels = Int32Array.from({ length: rows }, (_, row) => (row * 7) % cols);
      const options = { divergence: 'jensen_shannon', labels, hardWeight: 0.25, temperature: 2, reduction: 'none' } as const;
      return withGradient(student, kdLoss(student, matrix(2, rows, cols, dtype), options));
    },
    async softmax(rows, cols, dtype) {
      const x = matrix(3, rows, cols, dtype, true);
      const y = softmax(x);
      y.backward(matrix(4, rows, cols, dtype));
      return [await numbers(y), await numbers(x.grad!)];
    },
    async sampled(rows, cols, dtype) {
      const found: Float32Array[] = [];
      for (const [method, draws] of [
        ['with_replacement', 40],
        ['head_tail', 40],
        ['race', 40],
        ['race', 600],
      ] as const) {
        const { indices, weights } = sampleTarget(matrix(5, rows, cols, dtype), draws, { method, seed: 3 });
        found.push(await numbers(indices), await numbers(weights!));
      }
      return found;
    },
  };

  // A block of 128 threads, blocks of 256, rows that are not aligned, those that need a cluster of two or four anyway.
  for (const [dtype, cols] of [
    ['float32', 1025],
    ['float32', 5003],
    ['bfloat16', 2056],
    ['float32', 15_000],
    ['float32', 30_001],
  ] as [DType, number][])
    for (const [name, run] of Object.entries(kernels))
      test(`${name}, ${dtype}, rows of ${cols}: one, three and five rows have the bits of ${MOST}`, { timeout: 60_000 }, async () => {
        const all = await run(MOST, cols, dtype);
        const clusters = new Set<number>();
        for (const rows of [1, 3, 5]) {
          emulator.resetAudit();
          (await run(rows, cols, dtype)).forEach((values, i) => {
            const wrong = values.findIndex((value, j) => !Object.is(value, all[i]![j]));
            expect(wrong, `${rows} rows: ${values[wrong]} instead of ${all[i]![wrong]}`).toBe(-1);
          });
          for (const { kernel, cluster } of emulator.audit()) if (/^(divergence_dense|softmax|sample)/.test(kernel)) clusters.add(cluster);
        }
        // Four warps are for four blocks; sampling, whose sums are integers, shortens its runs instead, down to 1,024 columns.
        const most = name === 'sampled' ? (cols >= 8192 ? 8 : cols >= 4096 ? 4 : cols >= 2048 ? 2 : 1) : cols > 2048 ? 8 : 4;
        expect(Math.max(...clusters)).toBe(most);
        expect(clusters.has(Math.min(most, 4))).toBe(true);
      });

  test('blocks that share a run read no byte twice', () => {
    emulator.configure({ multiprocessors: 1024 });
    for (const line of [
      audit.auditLoss('jensen_shannon', 8_192, 'float32'),
      audit.auditLoss('forward_kl', 32_000, 'bfloat16'),
      audit.auditSoftmax(8_192, 'bfloat16'),
      audit.auditSoftmaxBackward(8_192, 'float32'),
      audit.auditSample(32_000, 'bfloat16'),
      audit.auditSample(32_000, 'float32', 'race'),
    ]) {
      expect(line.work.cluster, line.what).toBe(8);
      expect(Math.abs(line.counted / line.least - 1), `${line.what}: ${line.counted} bytes per element`).toBeLessThanOrEqual(0.01);
    }
  });
});
