// Running sums and running ln Σ e^x, forwards and backwards, with gradients; ln Σ e^x of whole rows.
import { expectClose, expectSameBits } from '../compare.js';
import { normals, uniforms } from '../random.js';
import { COLS, FEW_COLS } from '../sizes.js';
import { codeOf, kernel, withMemory, type CaseFile, type Subject } from '../subject.js';

type Floats = Float32Array | Float64Array;
type Name = 'sum' | 'log_sum_exp' | 'log_sum_exp_relative';

function run<A extends Floats>(subject: Subject, name: Name, x: A, rows: number, cols: number, reverse: boolean, offset = 0): A {
  return withMemory(subject, (memory) => {
    const y = memory.output(x.constructor as new (size: number) => A, rows * cols, offset);
    kernel(subject, 'scan', memory.input(x, offset), y, rows, cols, codeOf(subject.native, 'scan', name), Number(reverse));
    return memory.read(y);
  });
}

function backward<A extends Floats>(subject: Subject, y: A, g: A, rows: number, cols: number, relative: boolean, reverse: boolean): A {
  return withMemory(subject, (memory) => {
    const out = memory.output(y.constructor as new (size: number) => A, rows * cols);
    kernel(subject, 'scan_backward', memory.input(y), memory.input(g), out, rows, cols, Number(relative), Number(reverse));
    return memory.read(out);
  });
}

/** One row in float64: ln Σ e^{x_j − x_i} of all up to and with i, from the terms themselves. */
function relativeRow(x: number[]): number[] {
  let max = -Infinity;
  let sum = 0;
  return x.map((v) => {
    if (v === -Infinity) return Infinity;
    const before = sum * Math.exp(max - Math.max(max, v));
    const top = Math.max(max, v);
    const rest = max === -Infinity ? 0 : before;
    const own = Math.exp(v - top);
    const y = v >= max ? Math.log1p(rest) : max - v + Math.log(sum + Math.exp(v - max));
    sum = rest + own;
    max = top;
    return y;
  });
}

const turned = (x: number[], reverse: boolean): number[] => (reverse ? x.slice().reverse() : x);
const rowOf = (x: Floats, r: number, cols: number): number[] => Array.from(x.subarray(r * cols, (r + 1) * cols));

/** ∂/∂x of Σ g·y in float64: e^{x_j}·Σ_{i ≥ j} g_i/Σ_i, less g_j where relative. */
function gradientRow(x: number[], g: number[], relative: boolean): number[] {
  const max = Math.max(...x);
  let sum = 0;
  const sums = x.map((v) => (sum += Math.exp(v - max)));
  let share = 0;
  const out = new Array<number>(x.length);
  for (let i = x.length - 1; i >= 0; i--) {
    share += g[i] === 0 ? 0 : (g[i] as number) / (sums[i] as number);
    out[i] = Math.exp((x[i] as number) - max) * share - (relative ? (g[i] as number) : 0);
  }
  return out;
}

export const scan: CaseFile = {
  op: 'scan',
  kernels: ['scan', 'scan_backward'],
  checks: [
    {
      name: 'running sums, every width, both directions',
      run(subject) {
        for (const cols of COLS)
          for (const reverse of [false, true]) {
            const x = normals(cols, 2 * cols, 3, 1);
            const y = run(subject, 'sum', x, 2, cols, reverse);
            for (const r of [0, 1]) {
              let [sum, size] = [0, 0];
              const sizes: number[] = [];
              const expected = turned(rowOf(x, r, cols), reverse).map((v) => {
                sizes.push((size += Math.abs(v)));
                return (sum += v);
              });
              expectClose(`V ${cols}`, turned(rowOf(y, r, cols), reverse), expected, (i) => 1e-7 * (sizes[i] as number));
            }
          }
      },
    },
    {
      name: 'running ln Σ e^x and its relative form, every width, both directions, offsets and spreads (trap 5)',
      run(subject) {
        for (const cols of COLS)
          for (const [spread, offset] of [
            [2, 0],
            [2, 8192],
            [60, -100],
          ] as const)
            for (const reverse of [false, true]) {
              const x = normals(cols, 2 * cols, spread, offset);
              const plain = run(subject, 'log_sum_exp', x, 2, cols, reverse);
              const relative = run(subject, 'log_sum_exp_relative', x, 2, cols, reverse);
              for (const r of [0, 1]) {
                const row = turned(rowOf(x, r, cols), reverse);
                const y = relativeRow(row);
                expectClose(`V ${cols}, relative`, turned(rowOf(relative, r, cols), reverse), y, (i) => 2e-6 * (y[i] as number) + 1e-37);
                expectClose(
                  `V ${cols}`,
                  turned(rowOf(plain, r, cols), reverse),
                  y.map((v, i) => v + (row[i] as number)),
                  (i) => 2e-7 * (Math.abs(row[i] as number) + Math.abs(y[i] as number)) + 1e-6,
                );
              }
            }
      },
    },
    {
      name: 'gradients of ln Σ e^x against the closed form, every width',
      run(subject) {
        for (const cols of COLS)
          for (const relative of [false, true])
            for (const reverse of [false, true]) {
              const x = normals(cols + 1, 2 * cols, 3);
              const g = uniforms(cols + 2, 2 * cols, -1, 2);
              const y = run(subject, 'log_sum_exp_relative', x, 2, cols, reverse);
              const out = backward(subject, y, g, 2, cols, relative, reverse);
              for (const r of [0, 1]) {
                const wanted = gradientRow(turned(rowOf(x, r, cols), reverse), turned(rowOf(g, r, cols), reverse), relative);
                const size = wanted.reduce((most, v) => Math.max(most, Math.abs(v)), 1);
                expectClose(`V ${cols}`, turned(rowOf(out, r, cols), reverse), wanted, 4e-6 * size);
              }
            }
      },
    },
    {
      name: '−∞ adds nothing, NaN and +∞ spoil what comes after, huge spreads neither overflow nor cancel',
      run(subject) {
        const inf = Infinity;
        const x = Float32Array.of(-inf, 1, -inf, 1, 0, NaN, 2, -inf, -inf, -inf, 1e4, -1e4, 1e4, -1e4, 3, inf, 1, 0);
        expectClose(
          'relative',
          run(subject, 'log_sum_exp_relative', x, 3, 6, false),
          [inf, 0, inf, Math.LN2, 1 + Math.log(2 + Math.exp(-1)), NaN, 0, inf, inf, inf, 0, 20000, 0, 20000, 9997, NaN, NaN, NaN],
          (i) => (i === 14 ? 1e-2 : 2e-3),
        );
        const plain = run(subject, 'log_sum_exp', x, 3, 6, false);
        expectClose(
          'plain',
          plain,
          [-inf, 1, 1, 1 + Math.LN2, Math.log(2 * Math.E + 1), NaN, 2, 2, 2, 2, 1e4, 1e4, 1e4, 1e4, 1e4, NaN, NaN, NaN],
          1e-3,
        );
        // The relative form of falling values far apart is e^{−gap}, down to where float32 ends.
        for (const gap of [10, 40, 80]) {
          const steps = Float32Array.from({ length: 5 }, (_, i) => gap * i);
          const y = run(subject, 'log_sum_exp_relative', steps, 1, 5, false);
          expectClose(
            `gap ${gap}`,
            y.subarray(1),
            [1, 2, 3, 4].map((i) => Math.log1p([1, 2, 3, 4].slice(0, i).reduce((sum, m) => sum + Math.exp(-m * gap), 0))),
            3e-6 * Math.exp(-gap) + 1e-38,
          );
        }
        const y = run(subject, 'log_sum_exp_relative', x.slice(0, 5), 1, 5, false);
        expectClose(
          'no gradient at −∞',
          backward(subject, y, Float32Array.of(0, 1, 0, 1, 1), 1, 5, false, false),
          gradientRow([-1e9, 1, -1e9, 1, 0], [0, 1, 0, 1, 1], false),
          1e-6,
        );
      },
    },
    {
      name: 'same bits twice, alone, unaligned, with 1, 2, 5 threads (trap 20); float64 on the CPU',
      run(subject) {
        const before = subject.native.info().threads;
        const [rows, cols] = [41, 1025];
        const x = normals(3, rows * cols, 3);
        try {
          for (const name of ['sum', 'log_sum_exp_relative'] as const) {
            subject.native.setThreads(1);
            const first = run(subject, name, x, rows, cols, true);
            expectSameBits('alone', run(subject, name, x.slice(40 * cols), 1, cols, true), first.slice(40 * cols));
            for (const threads of [2, 5]) {
              subject.native.setThreads(threads);
              expectSameBits(`${threads} threads`, run(subject, name, x, rows, cols, true, threads), first);
            }
          }
        } finally {
          subject.native.setThreads(before);
        }
        if (subject.device !== 'cpu') return;
        for (const size of FEW_COLS) {
          const wide = Float64Array.from(normals(size, size, 5));
          expectClose('float64', run(subject, 'log_sum_exp_relative', wide, 1, size, false), relativeRow(Array.from(wide)), 1e-11);
        }
      },
    },
    {
      name: 'public functions: gradients with an upstream of their own; logSumExp with temperatures, of rows of −∞ and +∞',
      async run({ limbeck, device }) {
        const read = async (x: ReturnType<typeof limbeck.zeros>): Promise<Float32Array> => (await x.read()) as Float32Array;
        const x = limbeck.tensor(normals(1, 6), { shape: [2, 3], device, requiresGrad: true });
        const values = await read(x);
        const g = normals(2, 6);
        const upstream = limbeck.tensor(g.slice(), { shape: [2, 3], device });
        limbeck.cumulativeSum(x).backward(upstream);
        const sums = [0, 3].flatMap((at) => [0, 1, 2].map((i) => Array.from(g.slice(at + i, at + 3)).reduce((a, b) => a + b, 0)));
        expectClose('∂ sum', await read(x.grad as NonNullable<typeof x.grad>), sums, 1e-6);
        for (const relative of [false, true]) {
          x.zeroGrad();
          limbeck.cumulativeLogSumExp(x, { reverse: true, relative }).backward(upstream);
          const wanted = [0, 1].flatMap((r) =>
            turned(gradientRow(turned(rowOf(values, r, 3), true), turned(rowOf(g, r, 3), true), relative), true),
          );
          expectClose('∂ lse', await read(x.grad as NonNullable<typeof x.grad>), wanted, 1e-6);
        }
        x.zeroGrad();
        const t = [0.5, 3];
        const lse = limbeck.logSumExp(x, { temperature: limbeck.tensor(t, { device }), keepDims: true });
        const exact = [0, 1].map((r) => Math.log(rowOf(values, r, 3).reduce((sum, v) => sum + Math.exp(v / (t[r] as number)), 0)));
        expectClose('logSumExp', await read(lse), exact, 1e-6);
        lse.backward(limbeck.tensor([[2], [-3]], { device }));
        const shares = [0, 1].flatMap((r) =>
          rowOf(values, r, 3).map((v) => ((r === 0 ? 2 : -3) * Math.exp(v / (t[r] as number) - (exact[r] as number))) / (t[r] as number)),
        );
        expectClose('∂ logSumExp', await read(x.grad as NonNullable<typeof x.grad>), shares, 2e-6);
        const special = limbeck.tensor(
          [
            [-Infinity, -Infinity],
            [Infinity, 1],
            [NaN, 1],
            [8192, -Infinity],
            [-8192, -8192],
          ],
          { device },
        );
        expectClose(
          'special',
          await read(limbeck.logSumExp(special, { temperature: 1 })),
          [-Infinity, Infinity, NaN, 8192, -8192 + Math.LN2],
          1e-3,
        );
      },
    },
  ],
  bench: [{ rows: 64, cols: 32000 }],
};
