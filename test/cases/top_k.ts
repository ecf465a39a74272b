// topK: values and ids of the k best, with every order of ties fixed.
import { expectClose, expectEqual, expectSameBits, expectThrows } from '../compare.js';
import { integers, normals } from '../random.js';
import { topKRow } from '../reference.js';
import { COLS, LARGE_VOCABULARY, ODD_VOCABULARY } from '../sizes.js';
import { kernel, withMemory, type CaseFile, type Subject } from '../subject.js';

function run(
  subject: Subject,
  x: Float32Array,
  rows: number,
  cols: number,
  k: number,
  offset = 0,
): { values: Float32Array; indices: Int32Array } {
  return withMemory(subject, (memory) => {
    const values = memory.output(Float32Array, rows * k, offset);
    const indices = memory.output(Int32Array, rows * k, offset);
    kernel(subject, 'top_k', memory.input(x, offset), values, indices, rows, cols, k);
    return { values: memory.read(values), indices: memory.read(indices) };
  });
}

function check(subject: Subject, what: string, x: Float32Array, rows: number, cols: number, k: number): void {
  const { values, indices } = run(subject, x, rows, cols, k);
  for (let r = 0; r < rows; r++) {
    const row = x.subarray(r * cols, (r + 1) * cols);
    const best = topKRow(row, k);
    expectEqual(`${what}: ids of row ${r}`, Array.from(indices.subarray(r * k, (r + 1) * k)), best);
    // No arithmetic: the values are the inputs.
    expectClose(
      `${what}: values of row ${r}`,
      values.subarray(r * k, (r + 1) * k),
      best.map((i) => row[i] as number),
      0,
    );
  }
}

const ks = (cols: number): Set<number> => new Set([1, 2, 8, 64, 256, cols - 1, cols].filter((k) => k >= 1 && k <= cols && k <= 600));

export const top_k: CaseFile = {
  op: 'top_k',
  kernels: ['top_k'],
  checks: [
    {
      name: 'every width, k from 1 to all (trap 18)',
      run(subject) {
        for (const cols of COLS) for (const k of ks(cols)) check(subject, `V ${cols}, k ${k}`, normals(cols + k, 2 * cols, 3), 2, cols, k);
      },
    },
    {
      name: 'many ties, the lowest ids first (trap 18)',
      run(subject) {
        for (const cols of COLS)
          for (const k of ks(cols)) check(subject, `V ${cols}, k ${k}`, Float32Array.from(integers(cols + k, 2 * cols, -2, 3)), 2, cols, k);
        check(subject, 'all equal', new Float32Array(4097).fill(-3), 1, 4097, 256);
        const maxima = normals(1, 4096);
        for (let i = 0; i < 300; i++) maxima[(i * 13) % 4096] = 50;
        check(subject, '300 equal maxima, k 256', maxima, 1, 4096, 256);
      },
    },
    {
      name: 'rising, falling and clustered rows (trap 18)',
      run(subject) {
        const cols = 4097;
        const rows = [
          (i: number) => i,
          (i: number) => -i,
          (i: number) => (i < 4000 ? -i : 1e6 + i),
          (i: number) => Math.fround(1 + i * 2 ** -23),
          (i: number) => (i % 1024) * 1e-30,
        ];
        for (const k of [1, 64, 256])
          check(
            subject,
            `k ${k}`,
            Float32Array.from(rows.flatMap((f) => Array.from({ length: cols }, (_, i) => f(i)))),
            rows.length,
            cols,
            k,
          );
      },
    },
    {
      name: 'NaN above everything, ±0 equal, infinities (trap 18)',
      run(subject) {
        const inf = Infinity;
        const rows = [
          [NaN, 1, 2, 3, 4, 5, 6, 7, 8],
          [1, 2, 3, 4, 5, 6, 7, 8, NaN],
          [1, NaN, 9, NaN, inf, NaN, 2, 3, 4],
          [-0, 0, -0, 0, -0, 0, -0, 0, -0],
          [0, -0, 0, -0, -1, -1, -0, 0, 0],
          [inf, -inf, inf, -inf, 0, 0, 0, 0, 0],
          new Array<number>(9).fill(-inf),
          new Array<number>(9).fill(NaN),
          [-inf, -inf, -inf, -inf, -inf, 1, -inf, -inf, -inf],
          [-1, -2, -3, -4, -5, -6, -7, -8, -9],
        ];
        for (const k of [1, 3, 8, 9]) check(subject, `k ${k}`, Float32Array.from(rows.flat()), rows.length, 9, k);
      },
    },
    {
      name: `rows of ${ODD_VOCABULARY} and ${LARGE_VOCABULARY}`,
      run(subject) {
        check(subject, 'odd', normals(2, 2 * ODD_VOCABULARY, 3), 2, ODD_VOCABULARY, 64);
        check(subject, 'large', normals(3, LARGE_VOCABULARY, 3), 1, LARGE_VOCABULARY, 256);
        check(
          subject,
          'large, rising',
          Float32Array.from({ length: LARGE_VOCABULARY }, (_, i) => i),
          1,
          LARGE_VOCABULARY,
          64,
        );
      },
    },
    {
      name: 'k of 0 gives nothing, k above the width is refused (traps 17, 27)',
      run(subject) {
        expectEqual('k 0', run(subject, normals(1, 10), 2, 5, 0).indices.length, 0);
        expectThrows('k 6 of 5', () => run(subject, normals(1, 10), 2, 5, 6), RangeError, /k must be at most/);
      },
    },
    {
      name: 'same bits twice, alone, unaligned, with 1, 2, 5 threads (trap 20)',
      run(subject) {
        const before = subject.native.info().threads;
        const x = normals(4, 41 * 1025, 3);
        try {
          subject.native.setThreads(1);
          const first = run(subject, x, 41, 1025, 7);
          expectSameBits('alone', run(subject, x.slice(40 * 1025), 1, 1025, 7).indices, first.indices.slice(40 * 7));
          for (const threads of [1, 2, 5]) {
            subject.native.setThreads(threads);
            const again = run(subject, x, 41, 1025, 7, threads);
            expectSameBits(`${threads} threads`, again.indices, first.indices);
            expectSameBits(`${threads} threads`, again.values, first.values);
          }
        } finally {
          subject.native.setThreads(before);
        }
      },
    },
    {
      name: 'public function: shape, int32 ids, k of all classes',
      async run({ limbeck, device }) {
        const x = limbeck.tensor(Float32Array.of(3, 1, 2, 9, 9, 8), { shape: [2, 3], device });
        const best = limbeck.topK(x, 2);
        expectEqual('shape', [...best.values.shape], [2, 2]);
        expectEqual('dtype', best.indices.dtype, 'int32');
        expectEqual('values', Array.from((await best.values.read()) as Float32Array), [3, 2, 9, 9]);
        expectEqual('ids', Array.from((await best.indices.read()) as Int32Array), [0, 2, 0, 1]);
      },
    },
  ],
  bench: [
    { rows: 64, cols: 32000, k: 64 },
    { rows: 16, cols: 128256, k: 64 },
  ],
};
