// Losses on logits: squared error, concrete scores, standardised KD; and the two operations that bring rows to one scale.
import { expectClose, expectEqual, expectThrows } from '../compare.js';
import { normals } from '../random.js';
import type { CaseFile } from '../subject.js';
import { composedLossChecks } from './composed_loss.js';

const sum = (x: number[]): number => x.reduce((a, b) => a + b, 0);
const mean = (x: number[]): number => sum(x) / x.length;
const softmax = (x: number[], t = 1): number[] => {
  const max = Math.max(...x);
  const e = x.map((v) => Math.exp((v - max) / t));
  return e.map((v) => v / sum(e));
};

function mse(z: number[], u: number[], centred: boolean): number {
  const delta = z.map((v, i) => v - (u[i] as number));
  const shift = centred ? mean(delta) : 0;
  return 0.5 * sum(delta.map((v) => (v - shift) ** 2));
}

/** As the paper has it: all pairs. The weights are constants, so they are given. */
function concrete(z: number[], u: number[], w1: number[], w2: number[]): number {
  const delta = z.map((v, i) => v - (u[i] as number));
  return 0.5 * sum(delta.flatMap((dy, y) => delta.map((dx, x) => (w1[y] as number) * (w2[x] as number) * (dx - dy) ** 2)));
}

function standardized(x: number[], epsilon: number): number[] {
  const m = mean(x);
  const s = Math.sqrt(mean(x.map((v) => (v - m) ** 2)));
  return x.map((v) => (v - m) / (s + epsilon));
}

const kl = (p: number[], q: number[]): number => sum(p.map((v, i) => v * Math.log(v / (q[i] as number))));

export const logit_losses: CaseFile = {
  op: 'logit_losses',
  kernels: [],
  checks: [
    ...composedLossChecks({
      name: 'logit MSE',
      cols: [1, 2, 33, 1025],
      call: (limbeck, z, u, _labels, options) => limbeck.logitMseLoss(z, u, options),
      reference: (z, u) => z.map((row, r) => mse(row, u[r] as number[], false)),
    }),
    ...composedLossChecks({
      name: 'centred logit MSE',
      cols: [2, 7, 33, 1025],
      shiftInvariant: true,
      call: (limbeck, z, u, _labels, options) => limbeck.logitMseLoss(z, u, { centred: true, ...options }),
      reference: (z, u) => z.map((row, r) => mse(row, u[r] as number[], true)),
    }),
    ...composedLossChecks({
      name: 'concrete score, teacher and uniform weights',
      cols: [2, 7, 33],
      shiftInvariant: true,
      call: (limbeck, z, u, _labels, options) => limbeck.concreteScoreLoss(z, u, { weights: ['teacher', 'uniform'], ...options }),
      reference: (z, u) =>
        z.map((row, r) => concrete(row, u[r] as number[], softmax(u[r] as number[]), new Array<number>(row.length).fill(1 / row.length))),
    }),
    ...composedLossChecks({
      name: 'standardised KD',
      cols: [3, 7, 33, 257],
      shiftInvariant: true,
      call: (limbeck, z, u, _labels, options) => limbeck.standardizedKdLoss(z, u, { temperature: 1.5, ...options }),
      reference: (z, u) =>
        z.map((row, r) => 1.5 ** 2 * kl(softmax(standardized(u[r] as number[], 1e-7), 1.5), softmax(standardized(row, 1e-7), 1.5))),
    }),
    {
      name: 'concrete score with the student’s weights: value by pairs, gradient by METHODS’ closed form, weights detached; by hand',
      async run({ limbeck, device }) {
        for (const weights of [
          ['student', 'student'],
          ['student', 'teacher'],
          ['teacher', 'student'],
          ['uniform', 'uniform'],
        ] as const) {
          const cols = 40;
          const z = normals(1, cols, 2);
          const u = normals(2, cols, 2);
          const student = limbeck.tensor(z, { shape: [1, cols], device, requiresGrad: true });
          const out = limbeck.concreteScoreLoss(student, limbeck.tensor(u, { shape: [1, cols], device }), { weights });
          const of = { student: softmax(Array.from(z)), teacher: softmax(Array.from(u)), uniform: new Array<number>(cols).fill(1 / cols) };
          const [w1, w2] = [of[weights[0]], of[weights[1]]];
          const value = concrete(Array.from(z), Array.from(u), w1, w2);
          expectClose(weights.join(), [out.item()], [value], 1e-5 * value);
          out.backward();
          const delta = Array.from(z, (v, i) => v - (u[i] as number));
          const e1 = sum(delta.map((d, i) => d * (w1[i] as number)));
          const e2 = sum(delta.map((d, i) => d * (w2[i] as number)));
          const gradient = delta.map((d, i) => (w2[i] as number) * (d - e1) + (w1[i] as number) * (d - e2));
          const steepest = Math.max(...gradient.map(Math.abs));
          expectClose(
            'gradient',
            (await (student.grad as NonNullable<typeof student.grad>).read()) as Float32Array,
            gradient,
            1e-5 * steepest,
          );
        }
        const z = limbeck.tensor([[1, 0]], { device });
        const u = limbeck.tensor([[0, 2]], { device });
        // δ = (1, −2), weights ½ each: the two ordered pairs of ¼ · 3² each, halved.
        expectClose('by hand', [limbeck.concreteScoreLoss(z, u, { weights: ['uniform', 'uniform'] }).item()], [9 / 4], 1e-6);
      },
    },
    {
      name: 'concrete score: −∞ on both sides is nothing, loss and gradient; unknown weights',
      async run({ limbeck, device }) {
        const student = limbeck.tensor([[1, -Infinity, 0.5, -1]], { device, requiresGrad: true });
        const out = limbeck.concreteScoreLoss(student, limbeck.tensor([[0, -Infinity, 1, 1]], { device }));
        const bare = limbeck.tensor([[1, 0.5, -1]], { device, requiresGrad: true });
        const plain = limbeck.concreteScoreLoss(bare, limbeck.tensor([[0, 1, 1]], { device }));
        expectClose('value', [out.item()], [plain.item()], 1e-6);
        out.backward();
        plain.backward();
        const g = (await (bare.grad as NonNullable<typeof bare.grad>).read()) as Float32Array;
        expectClose(
          'gradient',
          (await (student.grad as NonNullable<typeof student.grad>).read()) as Float32Array,
          [g[0] as number, 0, g[1] as number, g[2] as number],
          1e-6,
        );
        expectThrows(
          'weights',
          () => limbeck.concreteScoreLoss(bare, bare.detach(), { weights: ['student', 'best'] as never }),
          RangeError,
          /weights\[1\]/,
        );
        expectThrows(
          'weights',
          () => limbeck.concreteScoreLoss(bare, bare.detach(), { weights: ['student'] as never }),
          TypeError,
          /two names/,
        );
      },
    },
    {
      name: 'standardise: mean 0, deviation 1, along rows and columns; equal entries are 0 with gradient 0; scale does not count',
      async run({ limbeck, device }) {
        const [rows, cols] = [5, 33];
        const x = normals(3, rows * cols, 4, 1000);
        const g = normals(4, rows * cols);
        for (const along of ['row', 'column'] as const) {
          const t = limbeck.tensor(x, { shape: [rows, cols], device, requiresGrad: true });
          const y = limbeck.standardize(t, { along, epsilon: 0.5 });
          const lines =
            along === 'row'
              ? Array.from({ length: rows }, (_, r) => Array.from({ length: cols }, (_unused, c) => r * cols + c))
              : Array.from({ length: cols }, (_, c) => Array.from({ length: rows }, (_unused, r) => r * cols + c));
          const expected = new Float64Array(rows * cols);
          const gradient = new Float64Array(rows * cols);
          for (const line of lines) {
            const values = line.map((i) => x[i] as number);
            const up = line.map((i) => g[i] as number);
            const z = standardized(values, 0.5);
            const s = Math.sqrt(mean(values.map((v) => (v - mean(values)) ** 2)));
            const share = mean(up.map((v, i) => v * (z[i] as number)));
            line.forEach((at, i) => {
              expected[at] = z[i] as number;
              gradient[at] = ((up[i] as number) - mean(up) - ((z[i] as number) * (s + 0.5) * share) / s) / (s + 0.5);
            });
          }
          expectClose(along, (await y.read()) as Float32Array, expected, 1e-5);
          y.backward(limbeck.tensor(g, { shape: [rows, cols], device }));
          expectClose(`∂ ${along}`, (await (t.grad as NonNullable<typeof t.grad>).read()) as Float32Array, gradient, 1e-5);
        }
        const equal = limbeck.tensor(
          [
            [0.1, 0.1, 0.1],
            [1e4, 1e4, 1e4],
          ],
          { device, requiresGrad: true },
        );
        const flat = limbeck.standardize(equal);
        expectEqual(
          '0',
          Array.from((await flat.read()) as Float32Array).every((v) => v === 0),
          true,
        );
        flat.backward(
          limbeck.tensor(
            [
              [1, 2, 3],
              [1, 2, 3],
            ],
            { device },
          ),
        );
        expectEqual(
          'gradient 0',
          Array.from((await (equal.grad as NonNullable<typeof equal.grad>).read()) as Float32Array).every((v) => v === 0),
          true,
        );
        const z = limbeck.tensor([[1, 2, 4]], { device });
        const u = limbeck.tensor([[30, 60, 120]], { device });
        expectClose('a scaled teacher', [limbeck.standardizedKdLoss(z, u).item()], [0], 1e-9);
        expectThrows('epsilon', () => limbeck.standardize(z, { epsilon: -1 }), RangeError, /epsilon/);
      },
    },
    {
      name: 'normalise: length 1, gradient in closed form, a zero row stays 0',
      async run({ limbeck, device }) {
        const x = limbeck.tensor(
          [
            [3, 4],
            [0, 0],
          ],
          { device, requiresGrad: true },
        );
        const y = limbeck.normalize(x);
        expectClose('value', (await y.read()) as Float32Array, [0.6, 0.8, 0, 0], 1e-7);
        y.backward(
          limbeck.tensor(
            [
              [1, 2],
              [1, 2],
            ],
            { device },
          ),
        );
        // (g − y·(g·y))/5 with g·y = 2.2.
        expectClose(
          'gradient',
          (await (x.grad as NonNullable<typeof x.grad>).read()) as Float32Array,
          [(1 - 1.32) / 5, (2 - 1.76) / 5, 0, 0],
          1e-7,
        );
      },
    },
  ],
  bench: [],
};
