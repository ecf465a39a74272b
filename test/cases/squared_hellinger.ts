// Squared Hellinger distance, 1 − Σ √(pq).
import type { DivergenceReference } from '../reference.js';
import type { CaseFile } from '../subject.js';
import { rowLossChecks } from './divergence_checks.js';

const squaredHellinger: DivergenceReference = {
  name: 'squared_hellinger',
  loss(logP, logQ, d) {
    const gap = Math.abs(d) < 0.3 ? Math.exp(logP / 2) * Math.expm1(d / 2) : Math.exp(logQ / 2) - Math.exp(logP / 2);
    return (gap * gap) / 2;
  },
  massTerm: () => 0,
  pull: (logP, logQ) => (Math.exp(logQ) - Math.exp((logP + logQ) / 2)) / 2,
  anyMass: false,
};

export const squared_hellinger: CaseFile = {
  op: 'squared_hellinger',
  kernels: ['divergence'],
  checks: rowLossChecks(squaredHellinger, { renormalize: true, anyMass: false, isDistance: true, infinite: [] }),
  bench: [{ rows: 64, cols: 32000 }],
};
