// Generalised Jensen–Shannon, β KL(p‖m) + (1 − β) KL(q‖m) with m = βp + (1 − β)q.
import type { DivergenceReference } from '../reference.js';
import type { CaseFile } from '../subject.js';
import { rowLossChecks } from './divergence_checks.js';
import { logMixture, towardMixture } from './mixture_reference.js';

const jensenShannon = (beta: number): DivergenceReference => ({
  name: 'jensen_shannon',
  parameters: [beta, 0],
  loss: (logP, logQ, d) => beta * towardMixture(logP, logQ, d, beta, 1 - beta) + (1 - beta) * towardMixture(logQ, logP, -d, 1 - beta, beta),
  massTerm: () => 0,
  pull: (logP, logQ) => (logQ === -Infinity ? 0 : -(1 - beta) * Math.exp(logQ) * logMixture(logP - logQ, 1 - beta, beta)),
  anyMass: false,
});

export const jensen_shannon: CaseFile = {
  op: 'jensen_shannon',
  kernels: ['divergence'],
  checks: [0.5, 0.1, 0.9].flatMap((beta, at) =>
    rowLossChecks(jensenShannon(beta), { renormalize: true, anyMass: false, isDistance: true, infinite: [] }, at > 0).map((check) => ({
      ...check,
      name: `β ${beta}: ${check.name}`,
    })),
  ),
  bench: [{ rows: 64, cols: 32000 }],
};
