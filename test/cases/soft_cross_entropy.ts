// Soft cross-entropy, −Σ t ln q, for targets of any mass.
import { expectThrows } from '../compare.js';
import { integers, uniforms } from '../random.js';
import type { DivergenceReference, LossCall } from '../reference.js';
import { COLS } from '../sizes.js';
import type { CaseFile, Check } from '../subject.js';
import { rowLossChecks } from './divergence_checks.js';
import { checkLoss, denseCall, expectNanRow, runLoss } from './row_loss.js';

const softCrossEntropy: DivergenceReference = {
  name: 'soft_cross_entropy',
  loss(logP, logQ) {
    if (logP === -Infinity) return 0;
    return logQ === -Infinity ? Infinity : -Math.exp(logP) * logQ;
  },
  massTerm: () => 0,
  pull: (logP) => -Math.exp(logP),
  anyMass: true,
};

/** A call against weights of k drawn ids, which may repeat. */
function weighted(seed: number, rows: number, cols: number, k: number, more: Partial<LossCall> = {}): LossCall {
  return {
    rows,
    cols,
    k,
    student: denseCall(seed, rows, cols).student,
    target: 'sparse_weights',
    residual: 'sampled',
    indices: integers(seed + 1, rows * k, 0, cols),
    values: uniforms(seed + 2, rows * k, 0, 2 / k),
    divergence: softCrossEntropy,
    ...more,
  };
}

/** Where a loss near 0 is the rounding of ln Σ of the mixture, unless that is taken off. */
const certainMixture: Check = {
  name: "the assistant's mixture, student and teacher nearly certain",
  run(subject) {
    for (const alpha of [-1, 0, 0.5])
      for (const cols of [5, 31, 300]) {
        const call = denseCall(cols, 6, cols, { divergence: softCrossEntropy, temperature: 0.05, spread: 0.3, noise: 0.01 });
        const raised = (x: LossCall['student']): LossCall['student'] => x.map((v, i) => (i % cols === 2 ? v + 1.2 : v));
        const assistant = { alpha, lambda: 0.2 };
        checkLoss(subject, `α ${alpha}, V ${cols}`, { ...call, assistant, student: raised(call.student), teacher: raised(call.teacher!) });
      }
  },
};

const weightChecks: Check[] = [
  {
    name: 'weights: every width, ids drawn more than once add up (trap 17)',
    run(subject) {
      for (const cols of COLS)
        for (const k of new Set([1, Math.min(5, cols), Math.min(64, cols)]))
          for (const temperature of [1, 2.5]) checkLoss(subject, `V ${cols}, k ${k}`, weighted(cols + k, 3, cols, k, { temperature }));
    },
  },
  {
    name: 'weights: empty slots, weight 0, a hard term, in place, nothing at all',
    run(subject) {
      const call = weighted(3, 4, 300, 12, {
        labels: integers(5, 4, 0, 300),
        hardWeight: 0.3,
        labelSmoothing: 0.1,
        temperature: 2,
        reduction: 'mean',
      });
      (call.indices as Int32Array).set([-1, -1], 4);
      (call.values as Float32Array)[20] = 0;
      checkLoss(subject, 'mixed', call);
      checkLoss(subject, 'in place', weighted(4, 3, 257, 9), { inPlace: true });
      checkLoss(subject, 'no slots', { ...weighted(4, 2, 33, 1), k: 0, indices: new Int32Array(0), values: new Float32Array(0) });
      checkLoss(subject, 'a confident row', {
        ...weighted(6, 1, 3, 2),
        student: Float32Array.of(0, 14, 1),
        indices: Int32Array.of(1, 0),
        values: Float32Array.of(1, 0),
      });
    },
  },
  {
    name: 'weights: NaN, negative and infinite ones give a NaN row; an id outside is refused',
    run(subject) {
      const call = weighted(7, 4, 40, 3);
      (call.values as Float32Array).set([NaN], 1);
      (call.values as Float32Array).set([-0.1], 4);
      (call.values as Float32Array).set([Infinity], 8);
      const result = checkLoss(subject, 'weights', call);
      for (const row of [0, 1, 2]) expectNanRow('weights', result, 40, row);
      const outside = weighted(8, 2, 40, 3);
      (outside.indices as Int32Array)[4] = 40;
      if (subject.device === 'cpu') expectThrows('outside', () => runLoss(subject, outside), RangeError, /./);
      else expectNanRow('outside', checkLoss(subject, 'outside', outside), 40, 1);
    },
  },
];

export const soft_cross_entropy: CaseFile = {
  op: 'soft_cross_entropy',
  kernels: ['divergence'],
  checks: [
    ...rowLossChecks(softCrossEntropy, { renormalize: true, anyMass: true, isDistance: false, infinite: ['student'] }),
    certainMixture,
    ...weightChecks,
  ],
  bench: [{ rows: 64, cols: 32000 }],
};
