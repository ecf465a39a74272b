// The functions of one argument, forward and backward.
import { expectClose, expectSameBits, expectThrows } from '../compare.js';
import { normals, uniforms } from '../random.js';
import { unary as references } from '../reference.js';
import { codeOf, kernel, withMemory, type CaseFile, type Check, type Subject } from '../subject.js';

const SIZES = [1, 2, 7, 8, 31, 33, 1024, 4097];
const PARAMETER = 0.37;
// A few ulp; exp loses |x|·2^-24 more from its rounded argument.
const BOUND = 1e-6;

function forward(subject: Subject, name: string, x: Float32Array, parameter = PARAMETER, offset = 0): Float32Array {
  return withMemory(subject, (memory) => {
    const y = memory.output(Float32Array, x.length, offset);
    kernel(subject, 'unary', memory.input(x, offset), y, x.length, codeOf(subject.native, 'unary', name), parameter);
    return memory.read(y);
  });
}

function backward(subject: Subject, name: string, x: Float32Array, y: Float32Array, g: Float32Array, parameter = PARAMETER): Float32Array {
  return withMemory(subject, (memory) => {
    const out = memory.output(Float32Array, x.length);
    kernel(
      subject,
      'unary_backward',
      memory.input(x),
      memory.input(y),
      memory.input(g),
      out,
      x.length,
      codeOf(subject.native, 'unary', name),
      parameter,
    );
    return memory.read(out);
  });
}

const checks: Check[] = Object.entries(references).flatMap(([name, reference]) => [
  {
    name: `${name}: forward and backward`,
    run(subject: Subject) {
      for (const size of SIZES) {
        const x = uniforms(size, size, ...reference.domain);
        const p = Math.fround(PARAMETER);
        const expected = Float64Array.from(x, (value) => reference.forward(value, p));
        const y = forward(subject, name, x);
        expectClose(
          `size ${size}`,
          y,
          expected,
          (i) =>
            BOUND * Math.max(Math.abs(expected[i] as number), name === 'add_scalar' ? 1 : 0) * Math.max(1, Math.abs(x[i] as number) / 4) +
            1e-38,
        );
        const g = normals(size + 1, size, 2);
        const slopes = Float64Array.from(x, (value, i) => (g[i] as number) * reference.slope(value, y[i] as number, p));
        // tanh and sigmoid saturate: 1 − y² of a y that is rounded is off by an ulp of 1. The slopes of silu and gelu cross 0.
        const floor = ['tanh', 'sigmoid', 'silu', 'gelu'].includes(name) ? 1 : 0;
        expectClose(
          `size ${size}, backward`,
          backward(subject, name, x, y, g),
          slopes,
          (i) => BOUND * Math.max(Math.abs(slopes[i] as number), floor * Math.abs(g[i] as number)) + 1e-38,
        );
      }
    },
  },
  {
    name: `${name}: special values, bases off an aligned address`,
    run(subject: Subject) {
      const x = Float32Array.of(NaN, Infinity, -Infinity, 0, -0, 1e-40, -1e-40, 3e38, -3e38, 1, -1);
      const expected = Float64Array.from(x, (value) => Math.fround(reference.forward(value, Math.fround(PARAMETER))));
      expectClose('special', forward(subject, name, x), expected, (i) => BOUND * Math.max(1e-30, Math.abs(expected[i] as number)) + 2e-38);
      const more = uniforms(1, 100, ...reference.domain);
      const plain = forward(subject, name, more);
      for (const offset of [1, 2, 3]) expectSameBits(`offset ${offset}`, forward(subject, name, more, PARAMETER, offset), plain);
    },
  },
]);

export const unary: CaseFile = {
  op: 'unary',
  kernels: ['unary', 'unary_backward'],
  checks: [
    ...checks,
    {
      name: 'empty tensors, unknown functions',
      run(subject) {
        expectSameBits('empty', forward(subject, 'exp', new Float32Array(0)), new Float32Array(0));
        expectThrows(
          'code',
          () =>
            withMemory(subject, (memory) =>
              kernel(subject, 'unary', memory.input(new Float32Array(1)), memory.output(Float32Array, 1), 1, 999, 0),
            ),
          RangeError,
          /function must be a code/,
        );
      },
    },
  ],
  bench: [{ rows: 1024, cols: 1024 }],
};
