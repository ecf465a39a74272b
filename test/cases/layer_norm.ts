// Layer normalisation and RMSNorm, forward and backward.
import { expectClose, expectSameBits, expectThrows, expectTrue } from '../compare.js';
import { normals } from '../random.js';
import { kernel, withMemory, type CaseFile, type Subject } from '../subject.js';

const SHAPES: [number, number][] = [
  [1, 1],
  [3, 7],
  [5, 33],
  [9, 64],
  [2, 1025],
];
const EPSILON = 1e-5;
const BOUND = 4e-6;

interface Reference {
  y: Float64Array;
  gradientX: Float64Array;
  scaled: Float64Array;
  mean: Float64Array;
  inverse: Float64Array;
}

/** By the definition: x̂ = (x − μ)/√(σ² + ε); ∂x from the derivative of every term. */
function reference(
  x: Float32Array,
  w: Float32Array,
  b: Float32Array | null,
  g: Float32Array,
  rows: number,
  cols: number,
  isCentred: boolean,
): Reference {
  const out: Reference = {
    y: new Float64Array(x.length),
    gradientX: new Float64Array(x.length),
    scaled: new Float64Array(x.length),
    mean: new Float64Array(rows),
    inverse: new Float64Array(rows),
  };
  for (let r = 0; r < rows; r++) {
    const row = Array.from(x.subarray(r * cols, (r + 1) * cols));
    const mean = isCentred ? row.reduce((sum, v) => sum + v, 0) / cols : 0;
    const inverse = 1 / Math.sqrt(row.reduce((sum, v) => sum + (v - mean) ** 2, 0) / cols + EPSILON);
    const hat = row.map((v) => (v - mean) * inverse);
    const weighted = row.map((_, i) => (g[r * cols + i] as number) * (w[i] as number));
    const share = isCentred ? weighted.reduce((sum, v) => sum + v, 0) / cols : 0;
    const product = weighted.reduce((sum, v, i) => sum + v * (hat[i] as number), 0) / cols;
    out.mean[r] = mean;
    out.inverse[r] = inverse;
    hat.forEach((h, i) => {
      out.y[r * cols + i] = h * (w[i] as number) + (b === null ? 0 : (b[i] as number));
      out.scaled[r * cols + i] = h * (g[r * cols + i] as number);
      out.gradientX[r * cols + i] = inverse * ((weighted[i] as number) - share - h * product);
    });
  }
  return out;
}

function run(
  subject: Subject,
  x: Float32Array,
  w: Float32Array,
  b: Float32Array | null,
  g: Float32Array,
  rows: number,
  cols: number,
  isCentred: boolean,
  offset = 0,
): { y: Float32Array; gradientX: Float32Array; scaled: Float32Array } {
  return withMemory(subject, (memory) => {
    const [from, weight, upstream] = [memory.input(x, offset), memory.input(w), memory.input(g, offset)];
    const y = memory.output(Float32Array, x.length, offset);
    const mean = isCentred ? memory.output(Float32Array, rows) : null;
    const inverse = memory.output(Float32Array, rows);
    kernel(subject, 'layer_norm', from, weight, b === null ? null : memory.input(b), y, mean, inverse, rows, cols, EPSILON);
    const gradientX = memory.output(Float32Array, x.length, offset);
    const scaled = memory.output(Float32Array, x.length);
    kernel(subject, 'layer_norm_backward', from, weight, mean, inverse, upstream, gradientX, scaled, rows, cols);
    return { y: memory.read(y), gradientX: memory.read(gradientX), scaled: memory.read(scaled) };
  });
}

export const layer_norm: CaseFile = {
  op: 'layer_norm',
  kernels: ['layer_norm', 'layer_norm_backward'],
  checks: [
    ...[true, false].map((isCentred) => ({
      name: `${isCentred ? 'LayerNorm' : 'RMSNorm'}: forward and backward`,
      run(subject: Subject) {
        for (const [rows, cols] of SHAPES) {
          const x = normals(rows + cols, rows * cols, 2, isCentred ? 3 : 0);
          const [w, b, g] = [normals(1, cols, 1, 1), normals(2, cols), normals(3, rows * cols)];
          const bias = isCentred ? b : null;
          const expected = reference(x, w, bias, g, rows, cols, isCentred);
          const actual = run(subject, x, w, bias, g, rows, cols, isCentred);
          const what = `${rows}×${cols}`;
          // A mean of 3 and a spread of 2: its rounding is that of x itself. A single column has no spread but ε.
          const least = cols === 1 && isCentred ? 1 / Math.sqrt(EPSILON) : 1;
          expectClose(what, actual.y, expected.y, (i) => BOUND * (Math.abs(expected.y[i] as number) + 4 * least));
          expectClose(`${what}, g·x̂`, actual.scaled, expected.scaled, (i) => BOUND * 4 * least * (Math.abs(g[i] as number) + 1));
          expectClose(`${what}, ∂x`, actual.gradientX, expected.gradientX, (i) => {
            const r = Math.floor(i / cols);
            return BOUND * 16 * least * (expected.inverse[r] as number);
          });
          if (subject.device === 'cpu')
            expectSameBits(`${what}, off an aligned address`, run(subject, x, w, bias, g, rows, cols, isCentred, 1).y, actual.y);
        }
      },
    })),
    {
      name: 'NaN stays in its row; no rows; no columns are refused',
      run(subject) {
        const x = normals(1, 12);
        x[5] = NaN;
        const { y, gradientX } = run(subject, x, normals(2, 4), null, normals(3, 12), 3, 4, true);
        expectTrue('row 1', y.subarray(4, 8).every(Number.isNaN));
        expectTrue(
          'others',
          [...y.subarray(0, 4), ...y.subarray(8), ...gradientX.subarray(0, 4), ...gradientX.subarray(8)].every(Number.isFinite),
        );
        const none = new Float32Array(0);
        expectTrue('no rows', run(subject, none, normals(2, 4), null, none, 0, 4, true).y.length === 0);
        expectThrows(
          'no columns',
          () => run(subject, none, none, null, none, 2, 0, true),
          RangeError,
          /cols must be a whole number of at least 1/,
        );
      },
    },
    {
      name: 'public functions: gradients of weight and bias are sums over rows',
      async run({ limbeck, device }) {
        const [rows, cols] = [6, 5];
        const [xs, ws, bs, gs] = [normals(1, rows * cols), normals(2, cols), normals(3, cols), normals(4, rows * cols)];
        for (const isCentred of [true, false]) {
          const expected = reference(xs, ws, isCentred ? bs : null, gs, rows, cols, isCentred);
          // rmsNorm's own ε is 1e-6.
          const options = { epsilon: EPSILON };
          const make = (data: Float32Array, shape: number[]) => limbeck.tensor(data.slice(), { shape, device, requiresGrad: true });
          const [x, w, b] = [make(xs, [2, 3, cols]), make(ws, [cols]), make(bs, [cols])];
          const y = isCentred ? limbeck.layerNorm(x, w, b, options) : limbeck.rmsNorm(x, w, options);
          y.backward(limbeck.tensor(gs.slice(), { shape: [2, 3, cols], device }));
          const total = (values: ArrayLike<number>): Float64Array =>
            Float64Array.from({ length: cols }, (_, c) =>
              Array.from({ length: rows }, (_unused, r) => values[r * cols + c] as number).reduce((a, v) => a + v, 0),
            );
          const grad = async (t: typeof x): Promise<Float32Array> => (await (t.grad as NonNullable<typeof t.grad>).read()) as Float32Array;
          expectClose('∂x', await grad(x), expected.gradientX, 1e-5);
          expectClose('∂w', await grad(w), total(expected.scaled), 1e-5);
          if (isCentred) expectClose('∂b', await grad(b), total(gs), 1e-5);
        }
        expectThrows(
          'weight',
          () => limbeck.layerNorm(limbeck.zeros([2, 3], { device }), limbeck.zeros([4], { device })),
          RangeError,
          /weight must have shape \[3\]/,
        );
      },
    },
  ],
  bench: [{ rows: 1024, cols: 1024 }],
};
