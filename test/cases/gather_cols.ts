// Columns picked by index, and numbers added into columns.
import { expectClose, expectEqual, expectSameBits, expectThrows, expectTrue } from '../compare.js';
import { integers, normals } from '../random.js';
import { kernel, withMemory, type CaseFile, type Subject } from '../subject.js';

type Values = Float32Array | Float64Array | Int32Array;

function gather<A extends Values>(
  subject: Subject,
  x: A,
  indices: Int32Array,
  rows: number,
  cols: number,
  count: number,
  shared = false,
): A {
  return withMemory(subject, (memory) => {
    const y = memory.output(x.constructor as new (size: number) => A, rows * count);
    kernel(subject, 'gather_cols', memory.input(x), memory.input(indices), y, rows, cols, count, shared ? 0 : count);
    return memory.read(y);
  });
}

function scatter<A extends Values>(
  subject: Subject,
  x: A,
  indices: Int32Array,
  rows: number,
  cols: number,
  count: number,
  shared = false,
  distinct = false,
): A {
  return withMemory(subject, (memory) => {
    const y = memory.output(x.constructor as new (size: number) => A, rows * cols);
    kernel(subject, 'scatter_cols', memory.input(x), memory.input(indices), y, rows, cols, count, shared ? 0 : count, Number(distinct));
    return memory.read(y);
  });
}

const SHAPES: [number, number, number][] = [
  [1, 1, 1],
  [3, 7, 4],
  [5, 33, 60],
  [2, 1025, 9],
  [3, 2049, 2100],
  [40, 5, 3],
];

export const gather_cols: CaseFile = {
  op: 'gather_cols',
  kernels: ['gather_cols', 'scatter_cols'],
  checks: [
    {
      name: 'float32, int32, float64 on the CPU; indices for each row and for all',
      run(subject) {
        for (const [rows, cols, count] of SHAPES)
          for (const shared of [false, true]) {
            const indices = integers(count, shared ? count : rows * count, 0, cols);
            const inputs: Values[] = [normals(rows, rows * cols), integers(rows, rows * cols, -1000, 1000)];
            if (subject.device === 'cpu') inputs.push(Float64Array.from(normals(rows, rows * cols)));
            for (const x of inputs) {
              const expected = new (x.constructor as new (size: number) => Float32Array)(rows * count);
              for (let i = 0; i < rows * count; i++) {
                const row = Math.floor(i / count);
                expected[i] = x[row * cols + (indices[shared ? i % count : i] as number)] as number;
              }
              expectSameBits(`${rows}×${cols}, ${count}`, gather(subject, x, indices, rows, cols, count, shared), expected);
            }
          }
      },
    },
    {
      name: 'scatter: repeated columns add in the order of the indices, the same bits every time (trap 17)',
      run(subject) {
        for (const [rows, cols, count] of SHAPES)
          for (const shared of [false, true]) {
            const indices = integers(count + 1, shared ? count : rows * count, 0, cols);
            const inputs: (Float32Array | Float64Array)[] = [normals(rows + 9, rows * count, 100)];
            if (subject.device === 'cpu') inputs.push(Float64Array.from(normals(rows, rows * count)));
            for (const x of inputs) {
              const expected = new (x.constructor as new (size: number) => Float32Array)(rows * cols);
              for (let i = 0; i < rows * count; i++) {
                const at = Math.floor(i / count) * cols + (indices[shared ? i % count : i] as number);
                expected[at] = (expected[at] as number) + (x[i] as number);
              }
              expectSameBits(`${rows}×${cols}, ${count}`, scatter(subject, x, indices, rows, cols, count, shared), expected);
            }
          }
      },
    },
    {
      name: 'scatter of distinct columns: a permutation there and back',
      run(subject) {
        for (const cols of [1, 33, 1025]) {
          const order = Int32Array.from({ length: cols }, (_, i) => (i * 7 + 3) % cols);
          const distinct = new Set(order).size === cols;
          const x = normals(cols, 2 * cols);
          const twice = Int32Array.from([...order, ...order]);
          if (distinct)
            expectSameBits(`V ${cols}`, gather(subject, scatter(subject, x, twice, 2, cols, cols, false, true), twice, 2, cols, cols), x);
        }
      },
    },
    {
      name: 'an index that names no column: an error on the CPU, never an access on CUDA',
      run(subject) {
        for (const bad of [-1, 3, 2147483647, -2147483648]) {
          const indices = Int32Array.of(0, 2, bad, 1);
          const gathered = (): Float32Array => gather(subject, normals(1, 6), indices, 2, 3, 2);
          const added = (): Float32Array => scatter(subject, normals(1, 4), indices, 2, 3, 2);
          if (subject.device === 'cpu') {
            expectThrows(`gather ${bad}`, gathered, RangeError, /indices must be in \[0, 3\)/);
            expectThrows(`scatter ${bad}`, added, RangeError, /indices must be in \[0, 3\)/);
          } else {
            expectTrue('NaN where there is no column', Number.isNaN(gathered()[2]) && Number.isFinite(gathered()[3]));
            expectTrue('left out', added().every(Number.isFinite));
          }
        }
      },
    },
    {
      name: 'public functions: each is the other’s gradient',
      async run({ limbeck, device }) {
        const x = limbeck.tensor(
          [
            [1, 2, 3],
            [4, 5, 6],
          ],
          { device, requiresGrad: true },
        );
        const picked = limbeck.gather(x, limbeck.tensor(Int32Array.of(2, 2, 0, 1), { shape: [2, 2], device }));
        expectClose('gather', (await picked.read()) as Float32Array, [3, 3, 4, 5], 0);
        picked.backward(
          limbeck.tensor(
            [
              [1, 10],
              [100, 1000],
            ],
            { device },
          ),
        );
        expectClose('gradient', (await (x.grad as NonNullable<typeof x.grad>).read()) as Float32Array, [0, 0, 11, 100, 1000, 0], 0);
        x.zeroGrad();
        const first = limbeck.gather(x, [1]);
        expectEqual('shape', [...first.shape], [2, 1]);
        limbeck.sum(first).backward();
        expectClose('gradient', (await (x.grad as NonNullable<typeof x.grad>).read()) as Float32Array, [0, 1, 0, 0, 1, 0], 0);
        x.zeroGrad();
        const spread = limbeck.scatter(x, [3, 0, 3], 4);
        expectClose('scatter', (await spread.read()) as Float32Array, [2, 0, 0, 4, 5, 0, 0, 10], 0);
        spread.backward(
          limbeck.tensor(
            [
              [1, 2, 3, 4],
              [5, 6, 7, 8],
            ],
            { device },
          ),
        );
        expectClose('gradient', (await (x.grad as NonNullable<typeof x.grad>).read()) as Float32Array, [4, 1, 4, 8, 5, 8], 0);
        expectThrows(
          'shape',
          () => limbeck.gather(x, limbeck.zeros([3, 1], { device, dtype: 'int32' })),
          RangeError,
          /indices must have shape/,
        );
        expectThrows('kind', () => limbeck.gather(x, limbeck.zeros([2, 1], { device })), TypeError, /int32/);
        expectThrows('number', () => limbeck.gather(x, [0.5]), RangeError, /whole numbers/);
        expectThrows('count', () => limbeck.scatter(x, [0, 1], 4), RangeError, /3 indices/);
      },
    },
  ],
  bench: [],
};
