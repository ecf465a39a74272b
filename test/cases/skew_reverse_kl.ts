// Skew reverse KL, KL(q‖αq + (1 − α)p).
import type { DivergenceReference } from '../reference.js';
import type { CaseFile } from '../subject.js';
import { rowLossChecks } from './divergence_checks.js';
import { logMixture, towardMixture } from './mixture_reference.js';

const skewReverseKl = (alpha: number): DivergenceReference => ({
  name: 'skew_reverse_kl',
  parameters: [alpha, 0],
  loss: (logP, logQ, d) => towardMixture(logQ, logP, -d, alpha, 1 - alpha),
  massTerm: () => 0,
  pull(logP, logQ) {
    if (logQ === -Infinity) return 0;
    const v = logMixture(logP - logQ, alpha, 1 - alpha);
    return Math.exp(logQ) * (-v - alpha * Math.expm1(-v));
  },
  anyMass: false,
});

export const skew_reverse_kl: CaseFile = {
  op: 'skew_reverse_kl',
  kernels: ['divergence'],
  checks: [0.1, 0.7].flatMap((alpha, at) =>
    rowLossChecks(skewReverseKl(alpha), { renormalize: true, anyMass: false, isDistance: true, infinite: [] }, at > 0).map((check) => ({
      ...check,
      name: `α ${alpha}: ${check.name}`,
    })),
  ),
  bench: [{ rows: 64, cols: 32000 }],
};
