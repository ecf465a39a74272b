// Bias, activation and dropout in one pass, forward and backward: float64 formulas, and the bits of the separate operations.
import { expectClose, expectSameBits, expectThrows } from '../compare.js';
import { normals } from '../random.js';
import { counterUniform, unary as references } from '../reference.js';
import { codeOf, kernel, withMemory, type CaseFile, type Memory, type Subject } from '../subject.js';

interface Call {
  rows: number;
  cols: number;
  name: string;
  probability: number;
  seed: number;
  offset: number;
}

const FUNCTIONS = ['none', 'relu', 'gelu', 'silu', 'tanh'];
const SHAPES: readonly (readonly [number, number])[] = [
  [1, 1],
  [5, 7],
  [3, 32],
  [2, 1100],
  [65, 64],
];

function numbers(subject: Subject, { rows, cols, name, probability, seed, offset }: Call): number[] {
  return [rows, cols, codeOf(subject.native, 'activation', name), probability, seed, offset];
}

function forward(
  subject: Subject,
  memory: Memory,
  call: Call,
  x: Float32Array,
  bias: Float32Array | null,
  out?: Float32Array,
): Float32Array {
  const y = out ?? memory.output(Float32Array, call.rows * call.cols);
  kernel(subject, 'bias_activation', x, bias, y, ...numbers(subject, call));
  return memory.read(y);
}

function backward(subject: Subject, memory: Memory, call: Call, x: Float32Array, bias: Float32Array | null, g: Float32Array): Float32Array {
  const out = memory.output(Float32Array, call.rows * call.cols);
  kernel(subject, 'bias_activation_backward', x, bias, g, out, ...numbers(subject, call));
  return memory.read(out);
}

/** The same from the separate operations: [y, ∂x]. */
function apart(
  subject: Subject,
  memory: Memory,
  call: Call,
  x: Float32Array,
  bias: Float32Array,
  g: Float32Array,
): [Float32Array, Float32Array] {
  const { rows, cols, name, probability, seed, offset } = call;
  const size = rows * cols;
  const code = codeOf(subject.native, 'unary', name === 'none' ? 'copy' : name);
  const [sum, activated, dropped, spread, gradient] = Array.from({ length: 5 }, () => memory.output(Float32Array, size)) as [Float32Array, Float32Array, Float32Array, Float32Array, Float32Array]; // prettier-ignore
  kernel(subject, 'binary', x, bias, sum, rows, cols, codeOf(subject.native, 'binary', 'add'), codeOf(subject.native, 'broadcast', 'row'));
  kernel(subject, 'unary', sum, activated, size, code, 0);
  kernel(subject, 'dropout', activated, dropped, size, probability, seed, offset);
  kernel(subject, 'dropout', g, spread, size, probability, seed, offset);
  kernel(subject, 'unary_backward', sum, activated, spread, gradient, size, code, 0);
  return [memory.read(dropped), memory.read(gradient)];
}

export const bias_activation: CaseFile = {
  op: 'bias_activation',
  kernels: ['bias_activation', 'bias_activation_backward'],
  checks: [
    {
      name: 'every function, with and without dropout: the formulas, and the bits of the separate operations',
      run(subject) {
        for (const [rows, cols] of SHAPES)
          for (const name of FUNCTIONS)
            for (const [probability, seed, offset] of [
              [0, 0, 0],
              [0.25, 7, 8],
              [0.5, 2 ** 40 + 5, 4097],
            ] as const)
              withMemory(subject, (memory) => {
                const call = { rows, cols, name, probability, seed, offset };
                const size = rows * cols;
                const [x, bias, g] = [normals(size, size, 2), normals(size + 1, cols), normals(size + 2, size)];
                const [onX, onBias, onG] = [memory.input(x), memory.input(bias), memory.input(g)];
                const what = `${name} of ${rows} × ${cols}, dropout ${probability}`;
                const y = forward(subject, memory, call, onX, onBias);
                const gradient = backward(subject, memory, call, onX, onBias, onG);
                const [separateY, separateGradient] = apart(subject, memory, call, onX, onBias, onG);
                expectSameBits(`${what}, as apart`, y, separateY);
                expectSameBits(`${what}, backward as apart`, gradient, separateGradient);
                expectSameBits(`${what}, in place`, forward(subject, memory, call, onX, onBias, onX), y);
                const reference = name === 'none' ? undefined : references[name]!;
                const at = Float64Array.from(x, (value, i) => Math.fround(value + bias[i % cols]!));
                const share = Float64Array.from(x, (_, i) => (counterUniform(seed, offset + i) >= probability ? 1 / (1 - probability) : 0));
                const values = at.map((v) => reference?.forward(v, 0) ?? v);
                const slopes = at.map((v, i) => reference?.slope(v, values[i]!, 0) ?? 1);
                expectClose(what, y, values.map((v, i) => v * share[i]!), (i) => 1e-6 * (Math.abs(values[i]!) * Math.max(1, Math.abs(at[i]!)) * 2 + 1e-3)); // prettier-ignore
                expectClose(`${what}, backward`, gradient, slopes.map((v, i) => v * share[i]! * g[i]!), (i) => 3e-6 * Math.abs(g[i]!) * Math.max(1, Math.abs(slopes[i]!)) * 2); // prettier-ignore
              });
      },
    },
    {
      name: 'without a bias; nothing at all',
      run(subject) {
        withMemory(subject, (memory) => {
          const call = { rows: 3, cols: 5, name: 'relu', probability: 0.5, seed: 3, offset: 1 };
          const x = memory.input(normals(1, 15));
          const zero = memory.input(new Float32Array(5));
          const g = memory.input(normals(2, 15));
          expectSameBits('forward', forward(subject, memory, call, x, null), forward(subject, memory, call, x, zero));
          expectSameBits('backward', backward(subject, memory, call, x, null, g), backward(subject, memory, call, x, zero, g));
          const none = memory.input(new Float32Array(0));
          expectSameBits('empty', forward(subject, memory, { ...call, rows: 0 }, none, zero), new Float32Array(0));
        });
      },
    },
    {
      name: 'what does not fit is refused',
      run(subject) {
        withMemory(subject, (memory) => {
          const [x, y, bias] = [memory.input(new Float32Array(6)), memory.output(Float32Array, 6), memory.input(new Float32Array(3))];
          const refuse = (what: string, args: number[], b: Float32Array | null, type: typeof RangeError, message: RegExp): unknown =>
            expectThrows(what, () => kernel(subject, 'bias_activation', x, b, y, ...args), type, message);
          refuse('function', [2, 3, 99, 0, 0, 0], bias, RangeError, /function must be a code/);
          refuse('probability', [2, 3, 0, 1, 0, 0], bias, RangeError, /probability must be in/);
          refuse('bias', [1, 1000, 0, 0, 0, 0], bias, RangeError, /must hold 1000 elements/);
          refuse('rows', [1000, 3, 0, 0, 0, 0], bias, RangeError, /x must hold 3000 elements/);
        });
      },
    },
  ],
  bench: [{ rows: 1024, cols: 1024 }],
};
