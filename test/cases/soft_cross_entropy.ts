// Soft cross-entropy, −Σ t ln q, for targets of any mass.
import type { DivergenceReference } from '../reference.js';
import type { CaseFile } from '../subject.js';
import { rowLossChecks } from './divergence_checks.js';

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

export const soft_cross_entropy: CaseFile = {
  op: 'soft_cross_entropy',
  kernels: ['divergence'],
  checks: rowLossChecks(softCrossEntropy, { renormalize: true, anyMass: true, isDistance: false, infinite: ['student'] }),
  bench: [{ rows: 64, cols: 32000 }],
};
