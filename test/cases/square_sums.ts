// Sums of squares of many tensors in one call: what clipping by the norm of all gradients reads.
import { expectClose, expectThrows } from '../compare.js';
import { normals } from '../random.js';
import { kernel, withMemory, type CaseFile, type Subject } from '../subject.js';

function run(subject: Subject, lists: Float32Array[]): Float64Array {
  return withMemory(subject, (memory) => {
    const y = memory.output(Float64Array, lists.length);
    const tensors = lists.map((each) => memory.input(each));
    const sizes = lists.map(({ length }) => length);
    kernel(subject, 'square_sums', tensors, sizes, y);
    return memory.read(y);
  });
}

export const square_sums: CaseFile = {
  op: 'square_sums',
  kernels: ['square_sums'],
  checks: [
    {
      name: 'each tensor by itself, empty ones too, more of them than one launch takes',
      run(subject) {
        const lists = [4097, 0, 1, 12_289, 4096].map((size, i) => normals(i, size, 3));
        for (let i = 0; i < 200; i++) lists.push(normals(100 + i, i % 7));
        const expected = lists.map((list) => list.reduce((sum, v) => sum + v * v, 0));
        expectClose('sums', run(subject, lists), expected, (i) => 1e-6 * expected[i]!);
        expectClose('nothing but empty', run(subject, [new Float32Array(0), new Float32Array(0)]), [0, 0], 0);
      },
    },
    {
      name: 'infinities and NaN of one tensor stay in its sum',
      run(subject) {
        const lists = [Float32Array.of(1, 2), Float32Array.of(1, Infinity), Float32Array.of(NaN, 1), Float32Array.of(3, 4)];
        expectClose('sums', run(subject, lists), [5, Infinity, NaN, 25], 0);
      },
    },
    {
      name: 'lists that do not fit are refused',
      run(subject) {
        withMemory(subject, (memory) => {
          const [x, y] = [memory.input(new Float32Array(4)), memory.output(Float64Array, 1)];
          expectThrows('counts', () => kernel(subject, 'square_sums', [x, x], [4], y), RangeError, /tensors must have 1 entries: it has 2/);
          expectThrows('size', () => kernel(subject, 'square_sums', [x], [1000], y), RangeError, /tensors\[0\] must hold 1000 elements/);
          expectThrows(
            'dtype',
            () => kernel(subject, 'square_sums', [x], [4], memory.output(Float32Array, 1)),
            TypeError,
            /y must be float64/,
          );
        });
      },
    },
  ],
  bench: [{ rows: 1024, cols: 1024 }],
};
