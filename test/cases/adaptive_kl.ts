// Adaptive KL: forward and reverse KL with a weight for each row.
import { forwardKl, type DivergenceReference } from '../reference.js';
import type { CaseFile } from '../subject.js';
import { rowLossChecks } from './divergence_checks.js';
import { reverseKl } from './reverse_kl.js';

const mixture = (a: number): DivergenceReference => ({
  name: 'adaptive_kl',
  parameters: [a, 0],
  loss: (logP, logQ, d) => a * forwardKl.loss(logP, logQ, d) + (1 - a) * reverseKl.loss(logP, logQ, d),
  massTerm: () => 0,
  pull: (logP, logQ) => a * forwardKl.pull(logP, logQ) + (1 - a) * reverseKl.pull(logP, logQ),
  anyMass: false,
});

export const adaptive_kl: CaseFile = {
  op: 'adaptive_kl',
  kernels: ['divergence'],
  checks: rowLossChecks(mixture(0.25), { renormalize: false, anyMass: false, isDistance: true, infinite: ['student', 'teacher'] }),
  bench: [{ rows: 64, cols: 32000 }],
};
