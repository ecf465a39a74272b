// Matrix product with either side transposed, and added to what is there.
import { expectAll, expectClose, expectSameBits, expectTrue } from '../compare.js';
import { normals } from '../random.js';
import { matmul as reference } from '../reference.js';
import { kernel, withMemory, type CaseFile, type Subject } from '../subject.js';

// A sum of k products in any order: k·2^-24 of Σ|a||b| at worst, about √k of it in practice; no fused or blocked order passes 4·(√k + 4).
const bound = (k: number): number => 4 * (Math.sqrt(k) + 4) * 2 ** -24;

const SHAPES: [number, number, number][] = [
  [1, 1, 1],
  [1, 5, 3],
  [3, 1, 7],
  [2, 2, 1],
  [7, 9, 11],
  [16, 16, 16],
  [17, 15, 31],
  [33, 65, 32],
  [64, 64, 64],
  [65, 63, 129],
  [5, 200, 257],
  [128, 10, 784],
  [1, 130, 1000],
  [130, 1, 70],
];

function run(
  subject: Subject,
  a: Float32Array,
  b: Float32Array,
  m: number,
  n: number,
  k: number,
  transposeA: boolean,
  transposeB: boolean,
  start?: Float32Array,
): Float32Array {
  return withMemory(subject, (memory) => {
    const c = start === undefined ? memory.output(Float32Array, m * n) : memory.input(start);
    kernel(subject, 'matmul', memory.input(a), memory.input(b), c, m, n, k, transposeA, transposeB, start !== undefined);
    return memory.read(c);
  });
}

export const matmul: CaseFile = {
  op: 'matmul',
  kernels: ['matmul'],
  checks: [
    ...[false, true].flatMap((transposeA) =>
      [false, true].map((transposeB) => ({
        name: `${transposeA ? 'aᵀ' : 'a'}·${transposeB ? 'bᵀ' : 'b'}, every shape, set and added`,
        run(subject: Subject) {
          for (const [m, n, k] of SHAPES) {
            const a = normals(m + k, m * k);
            const b = normals(n + 2 * k, k * n);
            const { c, size } = reference(a, b, m, n, k, transposeA, transposeB);
            expectClose(`${m}×${n}×${k}`, run(subject, a, b, m, n, k, transposeA, transposeB), c, (i) => bound(k) * (size[i] as number));
            const start = normals(3, m * n);
            expectClose(
              `${m}×${n}×${k}, added`,
              run(subject, a, b, m, n, k, transposeA, transposeB, start),
              c.map((value, i) => value + (start[i] as number)),
              (i) => bound(k) * ((size[i] as number) + Math.abs(start[i] as number)),
            );
          }
        },
      })),
    ),
    {
      name: 'an empty inner size gives zeros, or leaves what is added to; empty sides are nothing',
      run(subject) {
        expectAll('k 0', run(subject, new Float32Array(0), new Float32Array(0), 3, 4, 0, false, false), (value) => value === 0, '0');
        const start = normals(1, 12);
        expectSameBits('k 0, added', run(subject, new Float32Array(0), new Float32Array(0), 3, 4, 0, false, false, start), start);
        expectTrue('m 0', run(subject, new Float32Array(0), normals(1, 12), 0, 4, 3, false, false).length === 0);
      },
    },
    {
      name: 'NaN and infinities reach the product',
      run(subject) {
        const a = Float32Array.of(1, NaN, 0, 1, Infinity, 0);
        const b = Float32Array.of(1, 2, 3, 4, 5, 6);
        const { c } = reference(a, b, 2, 2, 3, false, false);
        expectClose('special', run(subject, a, b, 2, 2, 3, false, false), c, 1e-6);
      },
    },
    {
      name: 'same bits twice; 1, 2 and 5 threads agree to rounding',
      run(subject) {
        const [m, n, k] = [97, 33, 200];
        const a = normals(1, m * k);
        const b = normals(2, n * k);
        const before = subject.native.info().threads;
        const { size } = reference(a, b, m, n, k, false, false);
        try {
          subject.native.setThreads(1);
          const first = run(subject, a, b, m, n, k, false, false);
          expectSameBits('twice', run(subject, a, b, m, n, k, false, false), first);
          for (const threads of [2, 5]) {
            subject.native.setThreads(threads);
            const more = run(subject, a, b, m, n, k, false, false);
            expectSameBits(`${threads} threads, twice`, run(subject, a, b, m, n, k, false, false), more);
            expectClose(`${threads} threads`, more, first, (i) => bound(k) * (size[i] as number));
          }
        } finally {
          subject.native.setThreads(before);
        }
      },
    },
    {
      name: 'public function: gradients of both sides, chained',
      async run({ limbeck, device }) {
        const [m, n, k] = [5, 7, 9];
        const x = normals(1, m * k);
        const y = normals(2, k * n);
        const g = normals(3, m * n);
        const a = limbeck.tensor(x, { shape: [m, k], device, requiresGrad: true });
        const b = limbeck.tensor(y, { shape: [k, n], device, requiresGrad: true });
        const c = limbeck.matmul(a, b);
        c.backward(limbeck.tensor(g, { shape: [m, n], device }));
        expectClose('c', (await c.read()) as Float32Array, reference(x, y, m, n, k, false, false).c, 1e-5);
        expectClose(
          '∂a',
          (await (a.grad as NonNullable<typeof a.grad>).read()) as Float32Array,
          reference(g, y, m, k, n, false, true).c,
          1e-5,
        );
        expectClose(
          '∂b',
          (await (b.grad as NonNullable<typeof b.grad>).read()) as Float32Array,
          reference(x, g, k, n, m, true, false).c,
          1e-5,
        );
      },
    },
  ],
  bench: [
    { rows: 128, cols: 784, k: 256 },
    { rows: 1024, cols: 1024, k: 1024 },
  ],
};
