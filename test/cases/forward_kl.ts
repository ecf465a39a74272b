// Forward KL through every target, residual and layout: the case file of the default divergence.
import { forwardKl } from '../reference.js';
import type { CaseFile } from '../subject.js';
import { rowLossChecks } from './divergence_checks.js';

export const forward_kl: CaseFile = {
  op: 'forward_kl',
  kernels: ['divergence'],
  // Bound: 1e-5 of DESIGN.md 4.2, see EXACTNESS in row_loss.ts.
  checks: rowLossChecks(forwardKl, { renormalize: true, anyMass: true, isDistance: true, infinite: ['student'] }),
  bench: [
    { rows: 512, cols: 1000 },
    { rows: 64, cols: 32000 },
    { rows: 16, cols: 128256 },
    { rows: 64, cols: 32000, k: 64 },
    { rows: 16, cols: 128256, k: 64 },
  ],
};
