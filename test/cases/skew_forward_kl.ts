// Skew forward KL, KL(p‖αp + (1 − α)q).
import type { DivergenceReference } from '../reference.js';
import type { CaseFile } from '../subject.js';
import { rowLossChecks } from './divergence_checks.js';
import { logMixture, towardMixture } from './mixture_reference.js';

const skewForwardKl = (alpha: number): DivergenceReference => ({
  name: 'skew_forward_kl',
  parameters: [alpha, 0],
  loss: (logP, logQ, d) => towardMixture(logP, logQ, d, alpha, 1 - alpha),
  massTerm: () => 0,
  // −(1 − α)·q·p/m with p/m = e^{−ln(m/p)}.
  pull: (logP, logQ) =>
    logP === -Infinity || logQ === -Infinity ? 0 : -(1 - alpha) * Math.exp(logQ - logMixture(logQ - logP, alpha, 1 - alpha)),
  anyMass: false,
});

export const skew_forward_kl: CaseFile = {
  op: 'skew_forward_kl',
  kernels: ['divergence'],
  checks: [0.1, 0.7].flatMap((alpha, at) =>
    rowLossChecks(skewForwardKl(alpha), { renormalize: true, anyMass: false, isDistance: true, infinite: [] }, at > 0).map((check) => ({
      ...check,
      name: `α ${alpha}: ${check.name}`,
    })),
  ),
  bench: [{ rows: 64, cols: 32000 }],
};
