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
import { decode } from '../src/dtypes.js';
import { planOf } from '../src/losses/linear_plan.js';
import { usageOf } from '../src/storage.js';
import { hostCopy } from '../src/tensor.js';
import { integers, normals } from './random.js';

const device = (process.env.LIMBECK_TEST_DEVICE ?? 'cpu') as Device;
const isEmulated = device !== 'cpu';
const [rows, inputs, cols, k] = isEmulated ? [60, 4, 100, 5] : [200, 8, 400, 5];
const usage = (): { tensors: number; bytes: number; peakBytes: number } => memory()[device]!;

function attemptOf(run: () => unknown): unknown {
  try {
    return run();
  } catch (error) {
    return error;
  }
}

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

const ways = new Set<string>();
test.each([
  [50, 24],
  [36, 64],
  [50, 2],
])('of half types, %i rows of %i inputs: what fits the scratch gives the gradients of one chunk', (n, width) => {
  const columns = 210;
  const half = (seed: number, count: number): Tensor => {
    const x = matrix(seed, count, width).cast('bfloat16').detach();
    x.requiresGrad = true;
    return x;
  };
  const [hidden, weight] = [half(1, n), half(2, columns)];
  const bias = put(normals(3, columns), [columns]).cast('bfloat16').detach();
  bias.requiresGrad = true;
  const target = sparseTarget({
    indices: put(
      Int32Array.from({ length: n * k }, (_, i) => (i % k) * 9),
      [n, k],
    ),
    logProbs: put(new Float32Array(n * k).fill(-3), [n, k]),
  });
  const labels = integers(6, n, 0, columns).map((label, r) => (r % 9 === 0 ? -100 : label));
  const usage = usageOf(device === 'cpu' ? -1 : 0);
  for (const options of [{}, { labels }] as LinearKdLossOptions[]) {
    const count = options.labels === undefined ? n : n - Math.ceil(n / 9);
    const call = (scratchBytes?: number): Uint16Array[] => {
      linearKdLoss(hidden, weight, target, { residual: 'tail_bucket', ...options, bias, scratchBytes }).backward();
      const gradients = [hidden, weight, bias].map((x) => hostCopy(x.grad!, 'test').slice() as Uint16Array);
      for (const each of [hidden, weight, bias]) each.zeroGrad();
      return gradients;
    };
    const least = Number(/needs, (\d+) bytes/.exec(String(attemptOf(() => call(1))))?.[1]);
    const [ofHidden, ofWeight, ofBias] = tidy(() => call()) as [Uint16Array, Uint16Array, Uint16Array];
    // Short chunks take the emulated device long.
    const multiples = isEmulated ? [3, 16, 24] : [1, 1.3, 2, 4, 8, 16, 24, 40];
    for (const scratchBytes of multiples.map((times) => Math.floor(times * least))) {
      const before = usage.bytes;
      usage.peakBytes = before;
      const [x, w, b] = tidy(() => call(scratchBytes)) as [Uint16Array, Uint16Array, Uint16Array];
      const isPart = count < n;
      // The results, row losses and where each row goes.
      const results = 2 * ((isPart ? 2 : 1) * n * width + columns * width + columns) + 4 * (2 * n + 4) + (isPart ? 2 * width + 4 : 0);
      expect(usage.peakBytes - before, String(scratchBytes)).toBeLessThanOrEqual(scratchBytes + results);
      expect(usage.bytes).toBe(before);
      const fixed = device === 'cpu' ? 0 : 2 * 216;
      const { way, parts, chunk } = planOf({
        rows: count,
        cols: columns,
        inputs: width,
        perRow: least - 4 * width - 4 * columns - fixed,
        scratch: scratchBytes - fixed,
        longest: Infinity,
        beside: 4 * columns,
        isGathered: true,
        mayKeep: true,
        copy: isPart ? Math.ceil((count * width * 2) / 16) * 16 : 0,
        skipped: 0,
      });
      ways.add(`${way}${parts.length > 1 ? ', in parts' : ''}`);
      expect(chunk).toBeLessThanOrEqual(count);
      expect(x, `${way}: hidden`).toEqual(ofHidden);
      // One product over all rows, as of one chunk; sums over the chunks may round to the neighbour.
      if (way !== 'sums') expect(w, `${way}: weight`).toEqual(ofWeight);
      for (const [got, expected] of [
        [w, ofWeight],
        [b, ofBias],
      ] as const) {
        const apart = Array.from(got, (bits, i) => {
          const wanted = decode('bfloat16', expected[i]!);
          return Math.abs(decode('bfloat16', bits) - wanted) / (2 ** -7 * Math.abs(wanted) + 1e-6);
        });
        expect(Math.max(...apart), way).toBeLessThanOrEqual(1);
      }
    }
  }
});
test.skipIf(isEmulated)('every way to keep to the scratch was taken', () => {
  expect([...ways].sort()).toEqual(['direct', 'kept', 'kept, in parts', 'sums', 'sums, in parts']);
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
