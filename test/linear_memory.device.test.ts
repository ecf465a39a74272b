// What linearKdLoss has in memory at its peak: the gradients and the scratch it was given, never logits of all rows.
import { expect, test } from 'vitest';
import {
  denseTarget,
  interpolateTarget,
  kdLoss,
  linear,
  linearKdLoss,
  memory,
  sparseTarget,
  tensor,
  tidy,
  type Device,
  type LinearKdLossOptions,
  type Tensor,
} from '../src/index.js';
import { integers, normals } from './random.js';

const device = (process.env.LIMBECK_TEST_DEVICE ?? 'cpu') as Device;
const isEmulated = device !== 'cpu';
const [rows, inputs, cols, k] = isEmulated ? [60, 4, 100, 5] : [200, 8, 400, 5];
const usage = (): { tensors: number; bytes: number; peakBytes: number } => memory()[device]!;

const put = (values: Float32Array | Int32Array, shape: number[], requiresGrad = false): Tensor =>
  tensor(values, { shape, device, requiresGrad });
const matrix = (seed: number, count: number, width: number, requiresGrad = false): Tensor =>
  put(normals(seed, count * width), [count, width], requiresGrad);

test('the peak is scratch and gradients, for every kind of target and every reduction', () => {
  const hidden = matrix(1, rows, inputs, true);
  const weight = matrix(2, cols, inputs, true);
  const bias = put(normals(3, cols), [cols], true);
  const logits = matrix(4, rows, cols);
  const probs = put(
    Float32Array.from({ length: rows * cols }, (_, i) => (i % cols < 64 ? 1 / 64 : 0)),
    [rows, cols],
  );
  const half = tensor(new Uint16Array(rows * cols), { shape: [rows, cols], dtype: 'bfloat16', device });
  const sparse = sparseTarget({
    indices: put(
      Int32Array.from({ length: rows * k }, (_, i) => (i % k) * 7),
      [rows, k],
    ),
    logProbs: put(new Float32Array(rows * k).fill(-3), [rows, k]),
    temperature: put(new Float32Array(rows).fill(2), [rows]),
  });
  const rowWeights = put(
    Float32Array.from({ length: rows }, (_, r) => r % 5),
    [rows],
  );
  const labels = integers(6, rows, 0, cols).map((label, r) => (r % 7 === 0 ? -100 : label));
  const teacher = { hidden: matrix(7, rows, 3), weight: matrix(8, cols, 3) };
  const before = usage();
  expect(before.peakBytes).toBe(before.bytes);
  const calls: [Parameters<typeof linearKdLoss>[2], LinearKdLossOptions][] = [
    [logits, {}],
    [sparse, { residual: 'tail_bucket' }],
    [sparse, { residual: 'renormalize', temperature: 3 }],
    [teacher, {}],
    [half, {}],
    [denseTarget({ probs }), { temperature: 2 }],
    [denseTarget({ logProbs: half }), {}],
    [interpolateTarget(logits, logits, { t: 0.5 }), {}],
  ];
  // Its sorts take the emulated device long.
  const others = isEmulated ? [] : [half, denseTarget({ probs }), interpolateTarget(logits, logits, { t: 0.5 }), teacher];
  for (const target of [logits, ...others])
    for (const valid of [cols, cols - 1]) calls.push([target, { divergence: 'adaptive_kl', cols: valid }]);
  const scratchBytes = 26 * 4 * cols * (isEmulated ? 1 : 3);
  // What passes between chunks: row losses, where each row goes, gradients of rows that count and of all.
  const gradients = 4 * (2 * rows * inputs + cols * inputs + 2 * cols + 4 * rows);
  for (const [target, options] of calls)
    for (const reduction of ['mean', 'none'] as const)
      for (const some of [{}, { rowWeights }, { labels }]) {
        tidy(() => {
          const loss = linearKdLoss(hidden, weight, target, { ...options, ...some, bias, reduction, scratchBytes });
          loss.backward(reduction === 'none' ? put(normals(9, rows), [rows]) : null);
          for (const each of [hidden, weight, bias]) each.zeroGrad();
        });
        const name = target instanceof Object ? target.constructor.name : '';
        expect(usage().peakBytes - before.bytes, `${name} ${JSON.stringify({ ...options, reduction })}`).toBeLessThanOrEqual(
          scratchBytes + gradients,
        );
        expect(usage().bytes).toBe(before.bytes);
      }
  expect(scratchBytes + gradients).toBeLessThan(4 * rows * cols);
  expect(usage().peakBytes - before.bytes).toBeGreaterThan(scratchBytes / 2);
  // The whole logits and their gradient are what the other way holds.
  tidy(() => kdLoss(linear(hidden, weight, bias), logits).backward());
  expect(usage().peakBytes - before.bytes).toBeGreaterThan(2 * 4 * rows * cols);
});

test('of half types: logits of two bytes, and sums of float32 beside the gradients', () => {
  const [hidden, weight] = [matrix(1, rows, inputs), matrix(2, cols, inputs)].map((x) => {
    const half = x.cast('bfloat16').detach();
    half.requiresGrad = true;
    return half;
  }) as [Tensor, Tensor];
  const target = sparseTarget({
    indices: put(new Int32Array(rows), [rows, 1]),
    logProbs: put(new Float32Array(rows).fill(-1), [rows, 1]),
  });
  // Up to the peak of the tests before: from here on every byte more shows.
  const missing = Math.ceil((usage().peakBytes - usage().bytes) / 4);
  const ballast = put(new Float32Array(missing), [missing]);
  const before = usage().bytes;
  const scratchBytes = 8 * 2 * cols;
  tidy(() => {
    linearKdLoss(hidden, weight, target, { residual: 'tail_bucket', scratchBytes }).backward();
    for (const each of [hidden, weight]) each.zeroGrad();
  });
  const gradients = 2 * rows * inputs + (2 + 4) * cols * inputs + 4 * 4 * rows;
  expect(usage().peakBytes - before).toBeLessThanOrEqual(scratchBytes + gradients);
  expect(usage().peakBytes - before).toBeGreaterThan(scratchBytes / 2);
  expect(usage().bytes).toBe(before);
  ballast.dispose();
  expect(scratchBytes + gradients).toBeLessThan(2 * rows * cols);
});

test('without scratchBytes: 512 rows on the CPU, at least one row anywhere', () => {
  const hidden = matrix(1, 2000, 2);
  const weight = matrix(2, 300, 2);
  const target = sparseTarget({ indices: put(new Int32Array(2000), [2000, 1]), logProbs: put(new Float32Array(2000).fill(-1), [2000, 1]) });
  const before = usage().bytes;
  const start = usage().peakBytes;
  tidy(() => linearKdLoss(hidden, weight, target, { residual: 'tail_bucket' }));
  const most = 4 * 300 * (device === 'cpu' ? 512 : 2000);
  expect(usage().peakBytes).toBeLessThanOrEqual(Math.max(start, before + most + 4 * 2000 * 4));
  expect(() => linearKdLoss(hidden, weight, target, { residual: 'tail_bucket', scratchBytes: 1000 })).toThrow(
    /^Cannot compute linearKdLoss: scratchBytes must hold what one row needs, \d+ bytes: it is 1000$/,
  );
});
