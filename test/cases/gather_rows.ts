// Rows picked by index, as a batch is from a data set.
import { expectSameBits, expectThrows, expectTrue } from '../compare.js';
import { integers, normals } from '../random.js';
import { kernel, withMemory, type CaseFile, type Subject } from '../subject.js';

function run<A extends Float32Array | Int32Array>(subject: Subject, x: A, indices: Int32Array, rows: number, cols: number): A {
  return withMemory(subject, (memory) => {
    const y = memory.output(x.constructor as new (size: number) => A, indices.length * cols);
    kernel(subject, 'gather_rows', memory.input(x), memory.input(indices), y, rows, cols, indices.length);
    return memory.read(y);
  });
}

function addBack(subject: Subject, x: Float32Array, indices: Int32Array, rows: number, cols: number): Float32Array {
  return withMemory(subject, (memory) => {
    const y = memory.output(Float32Array, rows * cols);
    kernel(subject, 'add_rows', memory.input(x), memory.input(indices), y, rows, cols, indices.length);
    return memory.read(y);
  });
}

export const gather_rows: CaseFile = {
  op: 'gather_rows',
  kernels: ['gather_rows', 'add_rows'],
  checks: [
    {
      name: 'float32 and int32, every width, repeated rows',
      run(subject) {
        for (const [rows, cols, count] of [
          [1, 1, 1],
          [5, 3, 9],
          [100, 33, 64],
          [7, 1025, 20],
          [300, 784, 50],
        ] as const) {
          const indices = integers(count, count, 0, rows);
          for (const x of [normals(rows, rows * cols), integers(rows, rows * cols, -1000, 1000)]) {
            const expected = new (x.constructor as new (size: number) => Float32Array)(count * cols);
            indices.forEach((row, i) => expected.set(x.subarray(row * cols, (row + 1) * cols), i * cols));
            expectSameBits(`${rows}×${cols}, ${count}`, run(subject, x as Float32Array, indices, rows, cols), expected);
          }
        }
      },
    },
    {
      name: 'an index that names no row: an error on the CPU, never a read on CUDA',
      run(subject) {
        for (const bad of [-1, 3, 2147483647]) {
          const call = (): Float32Array => run(subject, normals(1, 6), Int32Array.of(0, bad, 2), 3, 2);
          if (subject.device === 'cpu') expectThrows(String(bad), call, RangeError, /./);
          else {
            const y = call();
            expectTrue('NaN where there is no row', Number.isNaN(y[2]) && Number.isNaN(y[3]) && Number.isFinite(y[4]));
          }
        }
      },
    },
    {
      name: 'added back by index, in order; rows that nothing names are 0',
      run(subject) {
        for (const [rows, cols, count] of [
          [1, 1, 1],
          [5, 3, 9],
          [40, 33, 64],
          [7, 300, 20],
          [3, 4, 0],
        ] as const) {
          const x = normals(rows, count * cols);
          const indices = integers(count, count, 0, rows);
          const expected = new Float32Array(rows * cols);
          indices.forEach((row, i) => {
            for (let c = 0; c < cols; c++) expected[row * cols + c]! += x[i * cols + c] as number;
          });
          expectSameBits(`${rows}×${cols}, ${count}`, addBack(subject, x, indices, rows, cols), expected);
        }
        const call = (): Float32Array => addBack(subject, normals(1, 4), Int32Array.of(0, 7), 3, 2);
        if (subject.device === 'cpu') expectThrows('outside', call, RangeError, /indices must be in \[0, 3\)/);
        else
          expectTrue(
            'outside: added nowhere',
            call().every((v, i) => (i < 2 ? v !== 0 : v === 0)),
          );
      },
    },
    {
      name: 'no indices',
      run(subject) {
        expectTrue('empty', run(subject, normals(1, 6), new Int32Array(0), 3, 2).length === 0);
      },
    },
  ],
  bench: [{ rows: 60000, cols: 784 }],
};
