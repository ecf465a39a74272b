// Symmetric KL, half of forward plus half of reverse.
import { forwardKl, type DivergenceReference } from '../reference.js';
import type { CaseFile } from '../subject.js';
import { rowLossChecks } from './divergence_checks.js';
import { reverseKl } from './reverse_kl.js';

const symmetricKl: DivergenceReference = {
  name: 'symmetric_kl',
  loss: (logP, logQ, d) => (forwardKl.loss(logP, logQ, d) + reverseKl.loss(logP, logQ, d)) / 2,
  massTerm: () => 0,
  pull: (logP, logQ) => (forwardKl.pull(logP, logQ) + reverseKl.pull(logP, logQ)) / 2,
  anyMass: false,
};

export const symmetric_kl: CaseFile = {
  op: 'symmetric_kl',
  kernels: ['divergence'],
  checks: rowLossChecks(symmetricKl, { renormalize: false, anyMass: false, isDistance: true, infinite: ['student', 'teacher'] }),
  bench: [{ rows: 64, cols: 32000 }],
};
