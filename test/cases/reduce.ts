// Sums, means, sums of squares, maxima and minima over either axis.
import { expectClose, expectSameBits } from '../compare.js';
import { normals } from '../random.js';
import { reductions } from '../reference.js';
import { codeOf, kernel, withMemory, type CaseFile, type Subject } from '../subject.js';

const SHAPES: [number, number][] = [
  [1, 1],
  [1, 7],
  [7, 1],
  [3, 33],
  [33, 3],
  [5, 1025],
  [1025, 5],
  [70, 64],
  [1, 50257],
  [50257, 1],
];

function run(subject: Subject, name: string, x: Float32Array, rows: number, cols: number, axis: number, offset = 0): Float32Array {
  return withMemory(subject, (memory) => {
    const y = memory.output(Float32Array, axis === 0 ? cols : rows, offset);
    kernel(subject, 'reduce', memory.input(x, offset), y, rows, cols, codeOf(subject.native, 'reduce', name), axis);
    return memory.read(y);
  });
}

function lines(x: Float32Array, rows: number, cols: number, axis: number): number[][] {
  return Array.from({ length: axis === 0 ? cols : rows }, (_, i) =>
    Array.from({ length: axis === 0 ? rows : cols }, (_unused, j) => x[axis === 0 ? j * cols + i : i * cols + j] as number),
  );
}

export const reduce: CaseFile = {
  op: 'reduce',
  kernels: ['reduce'],
  checks: [
    ...Object.entries(reductions).flatMap(([name, reference]) =>
      [0, 1].map((axis) => ({
        name: `${name} over ${axis === 0 ? 'rows' : 'cols'}`,
        run(subject: Subject) {
          for (const [rows, cols] of SHAPES) {
            const x = normals(rows + cols, rows * cols, 3, 1);
            const parts = lines(x, rows, cols, axis);
            const size = parts.map((values) =>
              name === 'max' || name === 'min'
                ? 0
                : (reductions[name === 'sum_squares' ? 'sum_squares' : 'sum'] as (v: number[]) => number)(values.map(Math.abs)),
            );
            const count = name === 'mean' ? (parts[0] as number[]).length : 1;
            // Float32 partial sums of at most about a thousand terms: their rounding, against the sum of absolute values.
            const y = run(subject, name, x, rows, cols, axis);
            expectClose(`${rows}×${cols}`, y, parts.map(reference), (i) => (3e-6 * (size[i] as number)) / count);
            expectSameBits('twice, unaligned', run(subject, name, x, rows, cols, axis, 1), y);
          }
        },
      })),
    ),
    {
      name: 'NaN wins, infinities stay, nothing to reduce',
      run(subject) {
        const x = Float32Array.of(1, NaN, 3, Infinity, 2, 1, -Infinity, -5, -6);
        for (const [name, reference] of Object.entries(reductions))
          for (const axis of [0, 1])
            expectClose(`${name}, axis ${axis}`, run(subject, name, x, 3, 3, axis), lines(x, 3, 3, axis).map(reference), 1e-5);
        expectClose('sum of nothing', run(subject, 'sum', new Float32Array(0), 0, 4, 0), [0, 0, 0, 0], 0);
        expectClose('sum of no columns', run(subject, 'sum', new Float32Array(0), 4, 0, 1), [0, 0, 0, 0], 0);
      },
    },
    {
      name: 'a million terms keep their digits; 1, 2 and 5 threads, same bits (trap 20)',
      run(subject) {
        // A thousand equal terms in float32 lose at most 1000·2^-24 of their sum, all in one direction.
        const x = new Float32Array(1 << 20).fill(0.1);
        const before = subject.native.info().threads;
        try {
          expectClose('sum', run(subject, 'sum', x, 1, x.length, 1), [x.length * Math.fround(0.1)], 6);
          for (const axis of [0, 1]) {
            subject.native.setThreads(1);
            const data = normals(1, 200 * 333);
            const one = run(subject, 'sum', data, 200, 333, axis);
            for (const threads of [2, 5]) {
              subject.native.setThreads(threads);
              expectSameBits(`${threads} threads`, run(subject, 'sum', data, 200, 333, axis), one);
            }
          }
        } finally {
          subject.native.setThreads(before);
        }
      },
    },
    {
      name: 'public functions: sum and mean with gradients',
      async run({ limbeck, device }) {
        const x = limbeck.tensor(normals(1, 12), { shape: [3, 4], device, requiresGrad: true });
        limbeck.mean(x).backward();
        expectClose(
          '∂mean',
          (await (x.grad as NonNullable<typeof x.grad>).read()) as Float32Array,
          new Array<number>(12).fill(1 / 12),
          1e-7,
        );
        x.zeroGrad();
        limbeck.sum(x).backward();
        expectClose('∂sum', (await (x.grad as NonNullable<typeof x.grad>).read()) as Float32Array, new Array<number>(12).fill(1), 0);
      },
    },
  ],
  bench: [{ rows: 1024, cols: 1024 }],
};
