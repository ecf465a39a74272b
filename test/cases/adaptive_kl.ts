// Adaptive KL: forward and reverse KL with a weight for each row, and the weight from the teacher's head.
import { expectClose, expectThrows } from '../compare.js';
import { forwardKl, logSoftmaxRow, sum, type DivergenceReference } from '../reference.js';
import type { CaseFile } from '../subject.js';
import { rowLossChecks } from './divergence_checks.js';
import { checkLoss, denseCall, logits } from './row_loss.js';
import { reverseKl } from './reverse_kl.js';

const mixture = (a: number): DivergenceReference => ({
  name: 'adaptive_kl',
  parameters: [a, 0],
  loss: (logP, logQ, d) => a * forwardKl.loss(logP, logQ, d) + (1 - a) * reverseKl.loss(logP, logQ, d),
  massTerm: () => 0,
  pull: (logP, logQ) => a * forwardKl.pull(logP, logQ) + (1 - a) * reverseKl.pull(logP, logQ),
  anyMass: false,
});

/** Σ |p − q| over the fewest columns that hold `head` of the teacher's mass, over the same of all columns. */
function headShare(student: ArrayLike<number>, teacher: ArrayLike<number>, temperature: number, head: number): number {
  const p = logSoftmaxRow(teacher, temperature).map(Math.exp);
  const q = logSoftmaxRow(student, temperature).map(Math.exp);
  const order = Array.from(p.keys()).sort((a, b) => (p[b] as number) - (p[a] as number) || a - b);
  let before = 0;
  const inside: number[] = [];
  for (const i of order) {
    if (before < head) inside.push(Math.abs((p[i] as number) - (q[i] as number)));
    before += p[i] as number;
  }
  return sum(inside) / sum(Array.from(p, (value, i) => Math.abs(value - (q[i] as number))));
}

export const adaptive_kl: CaseFile = {
  op: 'adaptive_kl',
  kernels: ['divergence'],
  checks: [
    // A quarter: exact beside the logits of 1e5 in one of the checks, which are outside the contract.
    ...rowLossChecks(mixture(0.25), { renormalize: false, anyMass: false, isDistance: true, infinite: ['student', 'teacher'] }),
    {
      name: 'a weight for each row',
      run(subject) {
        for (const cols of [1, 7, 33, 1025])
          for (const a of [0, 0.25, 1]) {
            const call = denseCall(cols, 2, cols, { temperature: 2, divergence: mixture(a) });
            // The parameter of the call is not the one of its rows.
            const told = { ...mixture(a), parameters: [0.9, 0] as const };
            checkLoss(subject, `V ${cols}, a ${a}`, { ...call, divergence: told, rowParameter: Float32Array.of(a, a) });
          }
      },
    },
    {
      name: 'the weight is the share of |p − q| in the head of the teacher',
      async run(subject) {
        const { device, limbeck } = subject;
        for (const cols of [2, 33, 1025])
          for (const [head, temperature] of [
            [0.5, 1],
            [0.3, 2.5],
            [0.9, 1],
          ] as const) {
            const rows = 3;
            const { student, teacher } = logits(cols, rows, cols);
            const [z, u] = [
              limbeck.tensor(student, { shape: [rows, cols], device, requiresGrad: true }),
              limbeck.tensor(teacher, { shape: [rows, cols], device }),
            ];
            const loss = limbeck.kdLoss(z, u, { divergence: { kind: 'adaptive_kl', head }, temperature, reduction: 'none' });
            const expected: number[] = [];
            for (let r = 0; r < rows; r++) {
              const [zr, ur] = [student.subarray(r * cols, (r + 1) * cols), teacher.subarray(r * cols, (r + 1) * cols)];
              const [p, q] = [logSoftmaxRow(ur, temperature), logSoftmaxRow(zr, temperature)];
              const formula = mixture(headShare(zr, ur, temperature, head));
              expected.push(
                temperature ** 2 * sum(Array.from(p, (logP, i) => formula.loss(logP, q[i] as number, (q[i] as number) - logP))),
              );
            }
            expectClose(
              `V ${cols}, head ${head}`,
              (await loss.read()) as Float32Array,
              expected,
              (r) => 2e-5 * Math.max(1e-3, expected[r] as number),
            );
            for (const each of [z, u, loss]) each.dispose();
          }
      },
    },
    {
      name: 'the weight where both sides are nearly certain',
      async run(subject) {
        const { device, limbeck } = subject;
        const [student, teacher] = [Float32Array.of(20, 3, 0), Float32Array.of(20, 2, 5)];
        const [z, u] = [student, teacher].map((x) => limbeck.tensor(x, { shape: [1, 3], device }));
        const loss = limbeck.kdLoss(z!, u!, { divergence: 'adaptive_kl' });
        const [p, q] = [logSoftmaxRow(teacher, 1), logSoftmaxRow(student, 1)];
        const formula = mixture(headShare(student, teacher, 1, 0.5));
        const expected = sum(Array.from(p, (logP, i) => formula.loss(logP, q[i] as number, (q[i] as number) - logP)));
        expectClose('p and q of 1 − 3e-7', (await loss.read()) as Float32Array, [expected], () => 1e-5 * expected);
        for (const each of [z!, u!, loss]) each.dispose();
      },
    },
    {
      name: 'columns of one logit enter the head by their number',
      async run(subject) {
        const { device, limbeck } = subject;
        const [rows, cols] = [8, 4096];
        const { student, teacher } = logits(cols, rows, cols, { noise: 4 });
        for (const i of teacher.keys()) teacher[i] = Math.round(16 * (teacher[i] as number)) / 16;
        const [z, u] = [student, teacher].map((x) => limbeck.tensor(x, { shape: [rows, cols], device }));
        const loss = limbeck.kdLoss(z!, u!, { divergence: 'adaptive_kl', temperature: 3, reduction: 'none' });
        const expected = Array.from({ length: rows }, (_, r) => {
          const [zr, ur] = [student.subarray(r * cols, (r + 1) * cols), teacher.subarray(r * cols, (r + 1) * cols)];
          const [p, q] = [logSoftmaxRow(ur, 3), logSoftmaxRow(zr, 3)];
          const formula = mixture(headShare(zr, ur, 3, 0.5));
          return 9 * sum(Array.from(p, (logP, i) => formula.loss(logP, q[i] as number, (q[i] as number) - logP)));
        });
        expectClose('logits of sixteenths', (await loss.read()) as Float32Array, expected, (r) => 1e-6 * (expected[r] as number));
        for (const each of [z!, u!, loss]) each.dispose();
      },
    },
    {
      name: 'a float64 student of a float32 teacher on the CPU',
      run({ device, limbeck }) {
        if (device !== 'cpu') return;
        const student = limbeck.tensor([[2, -1, 0.5]], { dtype: 'float64' });
        const [narrow, wide] = (['float32', 'float64'] as const).map((dtype) =>
          limbeck.kdLoss(student, limbeck.tensor([[0, 1.25, 3]], { dtype }), { divergence: 'adaptive_kl' }).item(),
        );
        expectClose('loss', [narrow!], [wide!], 1e-12);
      },
    },
    {
      name: 'needs a dense target',
      run(subject) {
        const { device, limbeck } = subject;
        const student = limbeck.tensor([[1, 2, 3]], { device });
        const target = limbeck.captureTopK(student, 2);
        const options = { divergence: 'adaptive_kl', residual: 'tail_bucket' } as const;
        expectThrows('sparse', () => limbeck.kdLoss(student, target, options), RangeError, /dense/);
      },
    },
  ],
  bench: [{ rows: 64, cols: 32000 }],
};
