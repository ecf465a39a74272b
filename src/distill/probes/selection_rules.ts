// Choosing rows: AdaSPEC's gap and SelecTKD's acceptance, whose weights are constants of exactly the size asked for.
import { tidy } from '../../autograd.js';
import { argmaxInTopK, kdLoss, referenceGap, topFractionMask } from '../../losses/index.js';
import { tensor } from '../../tensor.js';
import { asTensor, largestGap, lossAndGradient, normals, numbersOf, rowOf } from './numbers.js';
import type { Probe } from './types.js';

/** Item 13: kept shares with ties, weights without a gradient, acceptance by hand, and all rows kept. */
export const selectionRules: Probe = {
  name: 'selection_rules',
  says: 'AdaSPEC and SelecTKD: the kept share is the one asked for, ties and all; weights have no gradient; keeping all is plain KL.',
  source: 'AdaSPEC 2025; SelecTKD 2025',
  options: {
    rows: { says: 'Rows.', default: 200, least: 8, most: 1000000, whole: true },
    cols: { says: 'Classes.', default: 30, least: 6, most: 65536, whole: true },
    keeps: { says: 'Shares that are kept.', default: [0, 0.1, 0.25, 0.4, 0.5, 0.8, 1], least: 0, most: 1 },
    k: { says: 'SelecTKD: the teacher’s k best.', default: 5, least: 1, most: 64, whole: true },
  },
  values: {
    keptGap: 'largest |kept rows − round(share · rows)|, on scores with and without ties',
    weightsGrad: '1 where a rule’s weights require a gradient, else 0',
    gradientGap: 'largest difference of the gradient from that with the weights as plain numbers: 0',
    acceptanceGap: '|acceptance rate − the share counted by hand|',
    acceptance: 'the acceptance rate',
    wholeGap: 'difference of loss and gradient with all rows kept from plain KL: rounding alone',
    unchosenLargest: 'largest |gradient| of rows that were not chosen: 0',
  },
  run(options, { device, seed }) {
    const { rows, cols, k } = options as Record<string, number>;
    const keeps = options['keeps'] as readonly number[];
    return tidy(() => {
      const [z, u, other] = [0, 1, 2].map((i) => normals(rows! * cols!, seed + i, 2)) as [Float32Array, Float32Array, Float32Array];
      const [student, teacher, reference] = [z, u, other].map((values) => asTensor(values, cols!, device)) as [
        ReturnType<typeof asTensor>,
        ReturnType<typeof asTensor>,
        ReturnType<typeof asTensor>,
      ];
      const gap = referenceGap(student, reference, teacher);
      const tied = tensor(
        Float32Array.from({ length: rows! }, (_, r) => r % 3),
        { device },
      );
      let keptGap = 0;
      for (const keep of keeps)
        for (const scores of [gap, tied]) {
          const kept = numbersOf(topFractionMask(scores, keep)).reduce((sum, value) => sum + value, 0);
          const asked = keep === 0 ? 0 : Math.max(1, Math.round(keep * rows!));
          keptGap = Math.max(keptGap, Math.abs(kept - asked));
        }
      // Scores of the student that is trained: its graph must not reach the weights.
      let weightsGrad = 0;
      const chosen = topFractionMask(gap, 0.4);
      const constant = tensor(Float32Array.from(numbersOf(chosen)), { device });
      const live = lossAndGradient(student, (x) => {
        const rowWeights = topFractionMask(referenceGap(x, reference, teacher), 0.4);
        const accepted = argmaxInTopK(x, teacher, k!, { otherwise: 0.01 });
        if (rowWeights.requiresGrad || accepted.requiresGrad) weightsGrad = 1;
        return kdLoss(x, teacher, { rowWeights, denominator: 'weights' });
      });
      const fixed = lossAndGradient(student, (x) => kdLoss(x, teacher, { rowWeights: constant, denominator: 'weights' }));
      let unchosenLargest = 0;
      numbersOf(chosen).forEach((weight, r) => {
        if (weight === 0) unchosenLargest = Math.max(unchosenLargest, largestGap(rowOf(live.gradient, r, cols!), 0));
      });
      const accepted = numbersOf(argmaxInTopK(student, teacher, k!));
      const acceptance = accepted.reduce((sum, value) => sum + value, 0) / rows!;
      let byHand = 0;
      for (let r = 0; r < rows!; r++) {
        const own = z.subarray(r * cols!, (r + 1) * cols!);
        const theirs = u.subarray(r * cols!, (r + 1) * cols!);
        const best = own.indexOf(Math.max(...own));
        if (theirs.filter((value) => value > theirs[best]!).length < k!) byHand++;
      }
      const whole = lossAndGradient(student, (x) =>
        kdLoss(x, teacher, { rowWeights: topFractionMask(referenceGap(x, reference, teacher), 1), denominator: 'weights' }),
      );
      const plain = lossAndGradient(student, (x) => kdLoss(x, teacher));
      return {
        values: {
          keptGap,
          weightsGrad,
          gradientGap: largestGap(live.gradient, fixed.gradient),
          acceptanceGap: Math.abs(acceptance - byHand / rows!),
          acceptance,
          wholeGap: Math.max(Math.abs(whole.loss - plain.loss), largestGap(whole.gradient, plain.gradient)),
          unchosenLargest,
        },
      };
    });
  },
};
