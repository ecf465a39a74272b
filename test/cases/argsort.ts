// argsort and sort: every order of ties fixed, either direction.
import { expectClose, expectEqual, expectSameBits } from '../compare.js';
import { integers, normals } from '../random.js';
import { COLS } from '../sizes.js';
import { kernel, withMemory, type CaseFile, type Subject } from '../subject.js';

type Floats = Float32Array | Float64Array;

function run(subject: Subject, x: Floats, rows: number, cols: number, descending: boolean, offset = 0): Int32Array {
  return withMemory(subject, (memory) => {
    const indices = memory.output(Int32Array, rows * cols, offset);
    kernel(subject, 'argsort', memory.input(x, offset), indices, rows, cols, Number(descending));
    return memory.read(indices);
  });
}

/** The rule: NaN above everything, −0 equal to +0, the lowest column first. */
function expected(row: Floats, descending: boolean): number[] {
  const value = (i: number): number => row[i] as number;
  const rises = (a: number, b: number): number => {
    if (Number.isNaN(value(a)) || Number.isNaN(value(b))) return Number(Number.isNaN(value(a))) - Number(Number.isNaN(value(b)));
    return value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0;
  };
  return Array.from(row, (_, i) => i).sort((a, b) => (descending ? -rises(a, b) : rises(a, b)) || a - b);
}

function check(subject: Subject, what: string, x: Floats, rows: number, cols: number): void {
  for (const descending of [true, false]) {
    const order = run(subject, x, rows, cols, descending);
    for (let r = 0; r < rows; r++) {
      const row = x.subarray(r * cols, (r + 1) * cols);
      expectEqual(
        `${what}, row ${r}, ${descending ? 'falling' : 'rising'}`,
        Array.from(order.subarray(r * cols, (r + 1) * cols)),
        expected(row, descending),
      );
    }
  }
}

export const argsort: CaseFile = {
  op: 'argsort',
  kernels: ['argsort'],
  checks: [
    {
      name: 'every width, random values and many ties',
      run(subject) {
        for (const cols of COLS) {
          check(subject, `V ${cols}`, normals(cols, 2 * cols, 3), 2, cols);
          check(subject, `V ${cols}, ties`, Float32Array.from(integers(cols, 2 * cols, -2, 3)), 2, cols);
        }
      },
    },
    {
      name: 'rows of several runs of 4096, the last one short',
      run(subject) {
        for (const cols of [4097, 8192, 12_289]) {
          check(subject, `V ${cols}`, normals(cols, cols, 3), 1, cols);
          check(subject, `V ${cols}, ties`, Float32Array.from(integers(cols, cols, 0, 50)), 1, cols);
        }
        check(subject, 'equal', new Float32Array(4200).fill(-2), 1, 4200);
        check(
          subject,
          'rising',
          Float32Array.from({ length: 4200 }, (_, i) => i),
          1,
          4200,
        );
      },
    },
    {
      name: 'NaN above everything, ±0 equal, infinities',
      run(subject) {
        const inf = Infinity;
        const rows = [
          [NaN, 1, -inf, 3, inf, 0, -0, 0, -0],
          [1, NaN, 9, NaN, inf, NaN, 2, 3, 4],
          [inf, -inf, inf, -inf, 0, 0, 0, 0, 0],
          new Array<number>(9).fill(-inf),
          new Array<number>(9).fill(NaN),
          [1e-45, -1e-45, 0, -0, 3e38, -3e38, 1, -1, 1e-40],
        ];
        check(subject, 'special', Float32Array.from(rows.flat()), rows.length, 9);
        if (subject.device === 'cpu') check(subject, 'special, float64', Float64Array.from(rows.flat()), rows.length, 9);
      },
    },
    {
      name: 'float64 on the CPU',
      run(subject) {
        if (subject.device !== 'cpu') return;
        for (const cols of [3, 129, 2049]) {
          check(
            subject,
            `V ${cols}`,
            Float64Array.from(normals(cols, 2 * cols), (v, i) => v + 1e-12 * (i % 7)),
            2,
            cols,
          );
          check(subject, `V ${cols}, ties`, Float64Array.from(integers(cols, 2 * cols, -2, 3)), 2, cols);
        }
      },
    },
    {
      name: 'same bits unaligned, alone, with 1, 2, 5 threads (trap 20)',
      run(subject) {
        const before = subject.native.info().threads;
        const x = Float32Array.from(integers(4, 41 * 333, 0, 40));
        try {
          subject.native.setThreads(1);
          const first = run(subject, x, 41, 333, true);
          expectSameBits('alone', run(subject, x.slice(40 * 333), 1, 333, true), first.slice(40 * 333));
          for (const threads of [1, 2, 5]) {
            subject.native.setThreads(threads);
            expectSameBits(`${threads} threads`, run(subject, x, 41, 333, true, threads), first);
          }
        } finally {
          subject.native.setThreads(before);
        }
      },
    },
    {
      name: 'public functions: falling by default, the gradient travels back to where each value came from',
      async run({ limbeck, device }) {
        const x = limbeck.tensor([[1, 3, 2, 3]], { device, requiresGrad: true });
        const { values, indices } = limbeck.sort(x);
        expectEqual('indices', Array.from((await indices.read()) as Int32Array), [1, 3, 2, 0]);
        expectClose('values', (await values.read()) as Float32Array, [3, 3, 2, 1], 0);
        values.backward(limbeck.tensor([[1, 2, 3, 4]], { device }));
        expectClose('gradient', (await (x.grad as NonNullable<typeof x.grad>).read()) as Float32Array, [4, 1, 3, 2], 0);
        expectEqual('rising', Array.from((await limbeck.argsort(x, { descending: false }).read()) as Int32Array), [0, 2, 1, 3]);
      },
    },
  ],
  bench: [{ rows: 64, cols: 32000 }],
};
