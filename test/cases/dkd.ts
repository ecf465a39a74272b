// Decoupled KD: the label's part and the others' part.
import { expectClose, expectThrows } from '../compare.js';
import type { CaseFile } from '../subject.js';
import { composedLossChecks } from './composed_loss.js';

const softmax = (x: number[], t: number): number[] => {
  const max = Math.max(...x);
  const e = x.map((v) => Math.exp((v - max) / t));
  const sum = e.reduce((a, b) => a + b, 0);
  return e.map((v) => v / sum);
};
const kl = (p: number[], q: number[]): number => p.reduce((sum, v, i) => (v === 0 ? sum : sum + v * Math.log(v / (q[i] as number))), 0);

function dkd(z: number[], u: number[], label: number, alpha: number, beta: number, t: number): number {
  const binary = (x: number[]): number[] => {
    const p = softmax(x, t);
    return [p[label] as number, p.reduce((sum, v, i) => (i === label ? sum : sum + v), 0)];
  };
  const others = (x: number[]): number[] =>
    softmax(
      x.filter((_, i) => i !== label),
      t,
    );
  return t * t * (alpha * kl(binary(u), binary(z)) + beta * kl(others(u), others(z)));
}

export const dkd_loss: CaseFile = {
  op: 'dkd_loss',
  kernels: [],
  checks: [
    ...composedLossChecks({
      name: 'DKD',
      labelled: true,
      shiftInvariant: true,
      cols: [2, 3, 33, 257],
      call: (limbeck, z, u, labels, options) => limbeck.dkdLoss(z, u, labels, { alpha: 0.7, beta: 3, temperature: 2, ...options }),
      reference: (z, u, labels) => z.map((row, r) => dkd(row, u[r] as number[], labels[r] as number, 0.7, 3, 2)),
    }),
    {
      name: 'α = 1 and β = 1 − p_y of the teacher is plain KD',
      run({ limbeck, device }) {
        const z = [[0.5, -1, 2, 0.25]];
        const u = [[1, 2, -0.5, 0]];
        const p = softmax(u[0] as number[], 3);
        const student = limbeck.tensor(z, { device });
        const teacher = limbeck.tensor(u, { device });
        const plain = limbeck.kdLoss(student, teacher, { temperature: 3 }).item();
        const parts = limbeck.dkdLoss(student, teacher, [1], { alpha: 1, beta: 1 - (p[1] as number), temperature: 3 }).item();
        expectClose('KD', [parts], [plain], 1e-6);
      },
    },
    {
      name: 'a label that takes all but e^−40, and an offset of 1e4: 1 − p keeps its digits',
      run({ limbeck, device }) {
        for (const offset of [0, 8192]) {
          const student = limbeck.tensor([[offset + 38, offset, offset - 2]], { device });
          const teacher = limbeck.tensor([[offset + 40, offset, offset - 1]], { device });
          const rest = (top: number, other: number): number => Math.log1p(Math.exp(-other)) - top;
          // KL of (1 − ε, ε) and (1 − η, η) with ε, η ~ e^−40: ε ln(ε/η) − ε + η to first order.
          const e = rest(40, 1);
          const h = rest(38, 2);
          const exact = Math.exp(e) * (e - h) - Math.exp(e) + Math.exp(h);
          const got = limbeck.dkdLoss(student, teacher, [0], { alpha: 1, beta: 0, temperature: 1 }).item();
          expectClose(`offset ${offset}`, [got], [exact], 1e-4 * exact);
        }
      },
    },
    {
      name: 'a padded vocabulary is nothing; a student without the label is +∞ with a NaN gradient',
      async run({ limbeck, device }) {
        const inf = Infinity;
        const padded = limbeck.tensor([[1, -inf, 0.5, 2, -inf]], { device, requiresGrad: true });
        const bare = limbeck.tensor([[1, 0.5, 2]], { device, requiresGrad: true });
        const wide = limbeck.dkdLoss(padded, limbeck.tensor([[0, -inf, 1, 1, -inf]], { device }), [2]);
        const narrow = limbeck.dkdLoss(bare, limbeck.tensor([[0, 1, 1]], { device }), [1]);
        expectClose('value', [wide.item()], [narrow.item()], 1e-6);
        wide.backward();
        narrow.backward();
        const g = (await (bare.grad as NonNullable<typeof bare.grad>).read()) as Float32Array;
        const got = (await (padded.grad as NonNullable<typeof padded.grad>).read()) as Float32Array;
        expectClose('gradient', got, [g[0] as number, 0, g[1] as number, g[2] as number, 0], 1e-6);
        const lost = limbeck.tensor([[-inf, 0, 1]], { device, requiresGrad: true });
        const infinite = limbeck.dkdLoss(lost, limbeck.tensor([[1, 0, 1]], { device }), [0]);
        expectClose('+∞', [infinite.item()], [inf], 0);
        infinite.backward();
        const none = (await (lost.grad as NonNullable<typeof lost.grad>).read()) as Float32Array;
        expectClose('gradient', none, [NaN, NaN, NaN], 0);
      },
    },
    {
      name: 'a temperature for each row is a loop of single ones; one column is too few',
      async run({ limbeck, device }) {
        const z = limbeck.randn([3, 5], { seed: 1, device });
        const u = limbeck.randn([3, 5], { seed: 2, device });
        const t = [0.5, 2, 7];
        const all = limbeck.dkdLoss(z, u, [0, 1, 2], { temperature: limbeck.tensor(t, { device }), reduction: 'none' });
        const got = (await all.read()) as Float32Array;
        for (let r = 0; r < 3; r++) {
          const one = limbeck.dkdLoss(z, u, [0, 1, 2], { temperature: t[r] as number, reduction: 'none' });
          expectClose(`row ${r}`, [got[r] as number], [((await one.read()) as Float32Array)[r] as number], 1e-5 * (got[r] as number));
        }
        const narrow = limbeck.zeros([2, 1], { device });
        expectThrows('one column', () => limbeck.dkdLoss(narrow, narrow, [0, 0]), RangeError, /at least 2 columns/);
      },
    },
  ],
  bench: [],
};
