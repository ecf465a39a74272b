// The functions of two arguments, with b as a matrix, a row, a column or one number.
import { expectClose, expectSameBits } from '../compare.js';
import { normals } from '../random.js';
import { binary as references } from '../reference.js';
import { codeOf, kernel, withMemory, type CaseFile, type Subject } from '../subject.js';

const BROADCASTS = ['same', 'row', 'column', 'scalar'] as const;
const SHAPES: [number, number][] = [
  [1, 1],
  [3, 1],
  [1, 7],
  [4, 33],
  [5, 1025],
  [129, 16],
];

function sizeOf(broadcast: (typeof BROADCASTS)[number], rows: number, cols: number): number {
  return { same: rows * cols, row: cols, column: rows, scalar: 1 }[broadcast];
}

function run(
  subject: Subject,
  name: string,
  broadcast: string,
  a: Float32Array,
  b: Float32Array,
  rows: number,
  cols: number,
  offset = 0,
): Float32Array {
  return withMemory(subject, (memory) => {
    const y = memory.output(Float32Array, rows * cols, offset);
    kernel(
      subject,
      'binary',
      memory.input(a, offset),
      memory.input(b, offset),
      y,
      rows,
      cols,
      codeOf(subject.native, 'binary', name),
      codeOf(subject.native, 'broadcast', broadcast),
    );
    return memory.read(y);
  });
}

export const binary: CaseFile = {
  op: 'binary',
  kernels: ['binary'],
  checks: [
    ...Object.entries(references).flatMap(([name, reference]) =>
      BROADCASTS.map((broadcast) => ({
        name: `${name}, b by ${broadcast}`,
        run(subject: Subject) {
          for (const [rows, cols] of SHAPES) {
            const a = normals(rows + cols, rows * cols, 3);
            const b = normals(rows * 7 + cols, sizeOf(broadcast, rows, cols), 3);
            const at = (i: number): number => b[{ same: i, row: i % cols, column: Math.floor(i / cols), scalar: 0 }[broadcast]] as number;
            // One rounding, as float32 arithmetic is exact before it; a logarithm near 0 is a difference.
            const expected = Float64Array.from(a, (value, i) => reference(value, at(i)));
            const y = run(subject, name, broadcast, a, b, rows, cols);
            const floor = name === 'log_add_exp' ? 3 : 0;
            expectClose(
              `${rows}×${cols}`,
              y,
              expected,
              (i) => 1.2e-7 * Math.max(floor, 2 * floor * Math.abs(expected[i] as number), Math.abs(expected[i] as number)) + 1e-45,
            );
            expectSameBits('unaligned', run(subject, name, broadcast, a, b, rows, cols, 1), y);
          }
        },
      })),
    ),
    {
      name: 'NaN, infinities and zeros',
      run(subject) {
        const values = [NaN, Infinity, -Infinity, 0, -0, 1];
        const a = Float32Array.from(values.flatMap((value) => values.map(() => value)));
        const b = Float32Array.from(values.flatMap(() => values));
        for (const [name, reference] of Object.entries(references))
          expectClose(
            name,
            run(subject, name, 'same', a, b, 6, 6),
            Float64Array.from(a, (value, i) => reference(value, b[i] as number)),
            name === 'log_add_exp' ? 3e-7 : 0,
          );
      },
    },
    {
      name: 'public functions: broadcast gradients are summed',
      async run({ limbeck, device }) {
        const x = normals(1, 12);
        const bias = normals(2, 4);
        const g = normals(3, 12);
        const a = limbeck.tensor(x, { shape: [3, 4], device, requiresGrad: true });
        const b = limbeck.tensor(bias, { shape: [4], device, requiresGrad: true });
        limbeck.mul(a, b).backward(limbeck.tensor(g, { shape: [3, 4], device }));
        expectClose(
          '∂a',
          (await (a.grad as NonNullable<typeof a.grad>).read()) as Float32Array,
          g.map((value, i) => value * (bias[i % 4] as number)),
          1e-6,
        );
        const expected = new Float64Array(4);
        g.forEach((value, i) => (expected[i % 4] = (expected[i % 4] as number) + value * (x[i] as number)));
        expectClose('∂b', (await (b.grad as NonNullable<typeof b.grad>).read()) as Float32Array, expected, 1e-5);
      },
    },
  ],
  bench: [{ rows: 1024, cols: 1024 }],
};
