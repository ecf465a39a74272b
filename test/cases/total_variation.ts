// Total variation, ½ Σ |p − q|, with subgradient 0 at ties.
import { expectClose } from '../compare.js';
import type { DivergenceReference } from '../reference.js';
import type { CaseFile } from '../subject.js';
import { rowLossChecks } from './divergence_checks.js';
import { checkLoss, denseCall, runLoss } from './row_loss.js';

const totalVariation: DivergenceReference = {
  name: 'total_variation',
  loss(logP, logQ, d) {
    const p = Math.exp(logP);
    const q = Math.exp(logQ);
    return Math.abs(Math.abs(d) < 0.3 ? p * Math.expm1(d) : q - p) / 2;
  },
  massTerm: () => 0,
  pull: (logP, logQ) => (logP === logQ ? 0 : (Math.exp(logQ) * Math.sign(logQ - logP)) / 2),
  anyMass: false,
  // Below 4e-6 the rounding of the logits decides the sign.
  undecided: (_logP, logQ, d) => (Math.abs(d) < 4e-6 ? Math.exp(logQ) : 0),
};

export const total_variation: CaseFile = {
  op: 'total_variation',
  kernels: ['divergence'],
  checks: [
    ...rowLossChecks(totalVariation, { renormalize: true, anyMass: false, isDistance: true, infinite: [], linear: true }),
    {
      // Where ln(q/p) is as small as the error of ln Σ, the signs of single terms say nothing of the sum.
      name: 'within 1e-6 of the teacher, to the digits of the contract',
      run(subject) {
        for (const cols of [2, 17, 300, 2100])
          for (const temperature of [1, 50]) {
            const call = denseCall(cols, 6, cols, { divergence: totalVariation, temperature, noise: 1e-6 });
            checkLoss(subject, `V ${cols}, T ${temperature}`, call);
          }
      },
    },
    {
      name: 'a tie beside differences has subgradient 0 (trap 6)',
      run(subject) {
        const { gradient } = runLoss(subject, {
          rows: 1,
          cols: 3,
          student: Float32Array.of(0, 0, Math.log(2)),
          target: 'logits',
          teacher: Float32Array.of(0, Math.log(2), 0),
          divergence: totalVariation,
        });
        // q = (¼, ¼, ½), s = (0, −1, 1): ½·q·(s − Σ q·s).
        expectClose('gradient', gradient, [-0.03125, -0.15625, 0.1875], 1e-6);
      },
    },
  ],
  bench: [{ rows: 64, cols: 32000 }],
};
