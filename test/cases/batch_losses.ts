// Losses between scores and between rows: DIST, margins, graded relevance, InfoNCE.
import { expectClose, expectThrows } from '../compare.js';
import { normals } from '../random.js';
import type { CaseFile } from '../subject.js';
import { composedLossChecks, grades } from './composed_loss.js';

const sum = (x: number[]): number => x.reduce((a, b) => a + b, 0);
const mean = (x: number[]): number => sum(x) / x.length;
const softmax = (x: number[], t: number): number[] => {
  const max = Math.max(...x);
  const e = x.map((v) => Math.exp((v - max) / t));
  return e.map((v) => v / sum(e));
};

/** 1 − Pearson correlation, 1 where one side does not vary. */
function distance(a: number[], b: number[]): number {
  const [x, y] = [a, b].map((v) => v.map((e) => e - mean(v))) as [number[], number[]];
  const size = Math.sqrt(sum(x.map((e) => e * e)) * sum(y.map((e) => e * e)));
  return size === 0 ? 1 : 1 - sum(x.map((e, i) => e * (y[i] as number))) / size;
}

function dist(z: number[][], u: number[][], beta: number, gamma: number, t: number): number[] {
  const q = z.map((row) => softmax(row, t));
  const p = u.map((row) => softmax(row, t));
  const column = (x: number[][], c: number): number[] => x.map((row) => row[c] as number);
  const intra = mean((z[0] as number[]).map((_, c) => distance(column(q, c), column(p, c))));
  return q.map((row, r) => t * t * (beta * distance(row, p[r] as number[]) + gamma * intra));
}

function margin(s: number[], t: number[], positive: number): number {
  const margins = (x: number[]): number[] => x.filter((_, j) => j !== positive).map((v) => (x[positive] as number) - v);
  const own = margins(s);
  return mean(margins(t).map((m, j) => ((own[j] as number) - m) ** 2));
}

const softplus = (x: number): number => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

function infoNce(z: number[][], u: number[][], t: number): number[] {
  const unit = (x: number[]): number[] => x.map((v) => v / Math.sqrt(sum(x.map((e) => e * e))));
  const [a, b] = [z.map(unit), u.map(unit)];
  return a.map((row, i) => {
    const s = b.map((other) => sum(other.map((v, j) => v * (row[j] as number))) / t);
    const max = Math.max(...s);
    return max + Math.log(sum(s.map((v) => Math.exp(v - max)))) - (s[i] as number);
  });
}

export const batch_losses: CaseFile = {
  op: 'batch_losses',
  kernels: [],
  checks: [
    ...composedLossChecks({
      name: 'DIST',
      cols: [3, 7, 33, 257],
      coupled: true,
      shiftInvariant: true,
      bound: 3e-5,
      call: (limbeck, z, u, _labels, options) => limbeck.distLoss(z, u, { beta: 0.7, gamma: 1.5, temperature: 2, ...options }),
      reference: (z, u) => dist(z, u, 0.7, 1.5, 2),
    }),
    ...composedLossChecks({
      name: 'margin MSE',
      cols: [2, 3, 33],
      shiftInvariant: true,
      infinityIsFine: true,
      call: (limbeck, z, u, _labels, options) => limbeck.marginMseLoss(z, u, { positive: 1, ...options }),
      reference: (z, u) => z.map((row, r) => margin(row, u[r] as number[], 1)),
    }),
    ...composedLossChecks({
      name: 'graded BCE',
      cols: [1, 2, 33, 1025],
      teacher: grades,
      infinityIsFine: true,
      call: (limbeck, z, u, _labels, options) => limbeck.gradedBceLoss(z, u, options),
      reference: (z, u) =>
        z.map((row, r) => mean(row.map((s, j) => (u[r]?.[j] as number) * softplus(-s) + (1 - (u[r]?.[j] as number)) * softplus(s)))),
    }),
    ...composedLossChecks({
      name: 'InfoNCE',
      cols: [2, 7, 33],
      coupled: true,
      call: (limbeck, z, u, _labels, options) => limbeck.infoNceLoss(z, u, { temperature: 0.5, ...options }),
      reference: (z, u) => infoNce(z, u, 0.5),
    }),
    {
      name: 'DIST: 0 for a linear function of the probabilities, exact near it, 1 without variance; the mean is the batch’s loss',
      async run({ limbeck, device }) {
        const z = limbeck.tensor(normals(1, 60), { shape: [4, 15], device, requiresGrad: true });
        expectClose('itself', [limbeck.distLoss(z, z.detach()).item()], [0], 1e-12);
        const near = limbeck.tensor(
          normals(1, 60).map((v, i) => v + (i % 2) * 2 ** -12),
          { shape: [4, 15], device },
        );
        const rows = (x: Float32Array): number[][] => Array.from({ length: 4 }, (_, r) => Array.from(x.subarray(r * 15, r * 15 + 15)));
        const exact = mean(dist(rows((await z.read()) as Float32Array), rows((await near.read()) as Float32Array), 1, 1, 1));
        expectClose('nearly', [limbeck.distLoss(z, near).item()], [exact], 1e-3 * exact);
        const flat = limbeck.zeros([4, 15], { device, requiresGrad: true });
        const out = limbeck.distLoss(flat, near);
        expectClose('no variance', [out.item()], [2], 1e-6);
        out.backward();
        expectClose('no gradient', (await (flat.grad as NonNullable<typeof flat.grad>).read()) as Float32Array, new Float64Array(60), 0);
      },
    },
    {
      name: 'margins by hand; grades outside [0, 1]; BCE of hard grades is exact for every score',
      async run({ limbeck, device }) {
        const s = limbeck.tensor([[5, 2]], { device });
        expectClose('margins', [limbeck.marginMseLoss(s, limbeck.tensor([[4, 2]], { device })).item()], [1], 1e-7);
        expectThrows('positive', () => limbeck.marginMseLoss(s, s, { positive: 2 }), RangeError, /positive/);
        expectThrows(
          'one candidate',
          () => limbeck.marginMseLoss(limbeck.zeros([2, 1], { device }), limbeck.zeros([2, 1], { device })),
          RangeError,
          /at least 2/,
        );
        if (device === 'cpu')
          expectThrows('grade', () => limbeck.gradedBceLoss(s, limbeck.tensor([[0.5, 1.5]], { device })), RangeError, /grade 1 is 1.5/);
        const scores = limbeck.tensor([[-80], [80], [-30], [Infinity]], { device, requiresGrad: true });
        const hard = limbeck.tensor([[0], [1], [1], [1]], { device });
        const out = limbeck.gradedBceLoss(scores, hard, { reduction: 'none' });
        const losses = (await out.read()) as Float32Array;
        expectClose('exact', losses, [Math.exp(-80), Math.exp(-80), 30, 0], (i) => 1e-5 * (i < 2 ? Math.exp(-80) : 30));
        out.backward(limbeck.ones([4], { device }));
        const gradient = (await (scores.grad as NonNullable<typeof scores.grad>).read()) as Float32Array;
        expectClose(
          'gradient',
          gradient,
          [Math.exp(-80), -Math.exp(-80), -1, 0],
          (i) => 1e-5 * Math.abs([Math.exp(-80), Math.exp(-80), 1, 1][i] as number),
        );
      },
    },
    {
      name: 'InfoNCE: equal features give ln rows; a row of weight 0 is nobody’s negative; a zero vector has cosine 0',
      async run({ limbeck, device }) {
        const ones = limbeck.ones([4, 3], { device });
        expectClose('ln 4', [limbeck.infoNceLoss(ones, ones).item()], [Math.log(4)], 1e-6);
        const rowWeights = limbeck.tensor([1, 0, 1, 1], { device });
        const out = limbeck.infoNceLoss(ones, ones, { rowWeights, reduction: 'none' });
        expectClose('ln 3', (await out.read()) as Float32Array, [Math.log(3), 0, Math.log(3), Math.log(3)], 1e-6);
        const zero = limbeck.tensor(
          [
            [0, 0],
            [1, 0],
          ],
          { device, requiresGrad: true },
        );
        const loss = limbeck.infoNceLoss(
          zero,
          limbeck.tensor(
            [
              [1, 0],
              [0, 1],
            ],
            { device },
          ),
          { temperature: 1, reduction: 'none' },
        );
        expectClose('zero', (await loss.read()) as Float32Array, [Math.LN2, Math.log(Math.E + 1)], 1e-6);
        loss.backward(limbeck.ones([2], { device }));
        const gradient = (await (zero.grad as NonNullable<typeof zero.grad>).read()) as Float32Array;
        expectClose('gradient', gradient.subarray(0, 2), [0, 0], 0);
      },
    },
  ],
  bench: [],
};
