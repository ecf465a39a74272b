// Reverse KL, Σ q ln(q/p): infinite where the teacher rules out what the student does not.
import { phi, type DivergenceReference } from '../reference.js';
import type { CaseFile } from '../subject.js';
import { rowLossChecks } from './divergence_checks.js';

export const reverseKl: DivergenceReference = {
  name: 'reverse_kl',
  loss(logP, logQ, d) {
    if (logQ === -Infinity) return Math.exp(logP);
    if (logP === -Infinity) return Infinity;
    const q = Math.exp(logQ);
    return Math.abs(d) > 0.3 ? Math.exp(logP) - q + q * d : q * phi(-d);
  },
  massTerm: () => 0,
  pull: (logP, logQ) => (logQ === -Infinity ? 0 : Math.exp(logQ) * (logQ - logP)),
  anyMass: false,
};

export const reverse_kl: CaseFile = {
  op: 'reverse_kl',
  kernels: ['divergence'],
  checks: rowLossChecks(reverseKl, { renormalize: false, anyMass: false, isDistance: true, infinite: ['teacher'] }),
  bench: [{ rows: 64, cols: 32000 }],
};
