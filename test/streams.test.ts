// Gradients and probabilities larger than the last cache go past it while the next row is read: their bits are those of small calls.
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { crossEntropy, kdLoss, softmax, sparseTarget, tensor, tidy, type KdLossOptions, type Tensor } from '../src/index.js';
import { integers, normals } from './random.js';

/** More floats than a quarter of the last cache holds. */
function largeSize(): number {
  let kilobytes = 0;
  try {
    kilobytes = Number.parseInt(readFileSync('/sys/devices/system/cpu/cpu0/cache/index3/size', 'utf8'), 10);
  } catch {
    // Nothing is known of the cache: the library takes it for 32 MiB too.
  }
  return Math.min(kilobytes > 0 ? kilobytes : 32 * 1024, 256 * 1024) * 64 + 1;
}

/** Rows of every kind side by side: ordinary, near the teacher, with NaN, with -inf, of -inf alone, of a wide range, with the largest at the end. */
function rowsOf(rows: number, cols: number): { student: Float32Array; teacher: Float32Array } {
  const student = normals(1, rows * cols, 3);
  const teacher = normals(2, rows * cols, 3);
  const kinds: ((at: number) => void)[] = [
    (at) =>
      student.set(
        teacher.subarray(at, at + cols).map((x, i) => x + 1e-3 * Math.sin(i)),
        at,
      ),
    (at) => (student[at + 5] = NaN),
    (at) => (student[at + cols - 1] = -Infinity),
    (at) => student.fill(-Infinity, at, at + cols),
    (at) => (teacher[at + 7] = 400),
    (at) => student.set([300, -300], at),
    (at) => (student[at + cols - 3] = 45),
  ];
  for (let r = 2; r < rows; r += 3) kinds[r % kinds.length]!(r * cols);
  return { student, teacher };
}

const PIECE = 7;

/** What a call on all rows gives, and what calls on a few rows each give, one after the other. */
function both(rows: number, of: (begin: number, end: number) => Float32Array): [Float32Array, Float32Array] {
  const whole = of(0, rows);
  const pieces = new Float32Array(whole.length);
  for (let r = 0; r < rows; r += PIECE) pieces.set(of(r, Math.min(r + PIECE, rows)), (r * whole.length) / rows);
  return [whole, pieces];
}

function expectSameBits([whole, pieces]: [Float32Array, Float32Array]): void {
  const bits = (x: Float32Array) => Buffer.from(x.buffer, x.byteOffset, x.byteLength);
  if (Buffer.compare(bits(whole), bits(pieces)) === 0) return;
  // NaN has many encodings and minus zero is zero; anything else is a difference.
  const at = whole.findIndex((x, i) => x !== pieces[i] && !(Number.isNaN(x) && Number.isNaN(pieces[i])));
  expect(at, at < 0 ? '' : `element ${at}: ${whole[at]} in one call, ${pieces[at]} in small ones`).toBe(-1);
}

// Vectors that start at a line of the cache, and rows that do not, with a last block and a last vector that are not whole; rows of about a page,
// of which one is written where the next is read from.
describe.each([8192, 5003, 1008, 300])('rows of %d', (cols) => {
  const rows = Math.ceil(largeSize() / cols);
  const { student, teacher } = rowsOf(rows, cols);
  const labels = integers(3, rows, 0, cols);
  labels[4] = -100;
  const part = (x: Float32Array, begin: number, end: number) => tensor(x.slice(begin * cols, end * cols), { shape: [end - begin, cols] });
  const gradient = (loss: (x: Tensor, begin: number, end: number) => Tensor) => (begin: number, end: number) => {
    const x = tensor(student.slice(begin * cols, end * cols), { shape: [end - begin, cols], requiresGrad: true });
    tidy(() => loss(x, begin, end).backward());
    return x.grad!.data as Float32Array;
  };
  const dense = (options: KdLossOptions) =>
    gradient((x, begin, end) =>
      kdLoss(x, part(teacher, begin, end), {
        ...options,
        ...(options.hardWeight ? { labels: labels.slice(begin, end) } : {}),
        reduction: 'sum',
      }),
    );

  test.each(['forward_kl', 'symmetric_kl', 'skew_forward_kl', 'total_variation', 'squared_hellinger', 'soft_cross_entropy'] as const)(
    'dense %s',
    (divergence) => expectSameBits(both(rows, dense({ divergence, temperature: 2 }))),
  );
  test('with a hard term', () => expectSameBits(both(rows, dense({ temperature: 2, hardWeight: 0.3 }))));
  test('cross-entropy', () =>
    expectSameBits(
      both(
        rows,
        gradient((x, begin, end) => crossEntropy(x, labels.slice(begin, end), { reduction: 'sum', labelSmoothing: 0.1 })),
      ),
    ));
  const sparseResiduals = ['renormalize', 'renormalize_both', 'truncate', 'tail_bucket', 'uniform'] as const;
  test.each([...sparseResiduals.map((residual) => [residual, false] as const), ['renormalize_both', true] as const])(
    'sparse %s, some rows with a hard term: %s',
    (residual, hard) => {
      const k = 8;
      const labelled = labels.map((label, r) => (r % 3 === 1 ? label : -1));
      const indices = Int32Array.from({ length: rows * k }, (_, i) => ((i % k) * 31 + Math.floor(i / k)) % cols);
      const probs = new Float32Array(rows * k).fill(0.9 / k);
      const target = (begin: number, end: number) =>
        sparseTarget({
          indices: tensor(indices.slice(begin * k, end * k), { shape: [end - begin, k], dtype: 'int32' }),
          probs: tensor(probs.slice(begin * k, end * k), { shape: [end - begin, k] }),
          temperature: 2,
          cols,
        });
      expectSameBits(
        both(
          rows,
          gradient((x, begin, end) =>
            kdLoss(x, target(begin, end), {
              residual,
              temperature: 2,
              reduction: 'sum',
              ...(hard ? { hardWeight: 0.3, labels: labelled.slice(begin, end), unlabelledIndex: -1 } : {}),
            }),
          ),
        ),
      );
    },
  );
  test('softmax', () =>
    expectSameBits(both(rows, (begin, end) => softmax(part(student, begin, end), { temperature: 2 }).data as Float32Array)));
});
