// Plackett–Luce distillation: the losses it contains, what it does not see, and ties.
import { tidy } from '../../autograd.js';
import { crossEntropy, listMleLoss, plackettLuceLoss } from '../../losses/index.js';
import { addScalar } from '../../ops/index.js';
import { asTensor, largestGap, lossAndGradient, normals, rowOf, softmaxOf, widest } from './numbers.js';
import type { Probe } from './types.js';

/** Item 11: cross-entropy, ListMLE, offsets, ties, and a vocabulary of the size of a language model's. */
export const pldIdentities: Probe = {
  name: 'pld_identities',
  says: 'PLD: α = (1, 0, …) is cross-entropy, equal α ListMLE/C; offsets do nothing; ties go by column; its gradient against the formula.',
  source: 'PLD 2025 (arXiv 2506.12542)',
  options: {
    rows: { says: 'Rows.', default: 8, least: 1, most: 4096, whole: true },
    cols: { says: 'Classes.', default: 30, least: 3, most: 4096, whole: true },
    wide: { says: 'Classes of the large case.', default: 4096, least: 3, most: 1000000, whole: true },
  },
  values: {
    crossEntropyGap: 'relative difference of loss and gradient from cross-entropy, where the teacher is sure of the label',
    listMleGap: 'the same from ListMLE by C, where α is even',
    offsetGap: 'relative change of the loss by adding 5 to the student’s logits',
    tieGap: 'difference of a teacher with ties from one that falls by column, α held even: 0',
    gradientError: 'largest difference of the gradient from its formula, by the largest',
    wideSum: 'largest |Σ gradient| of a row in the large case, by the largest gradient: 0 in theory',
    wideLoss: 'its loss',
  },
  run(options, { device, seed }) {
    const { rows, cols, wide } = options as Record<string, number>;
    const dtype = widest(device);
    return tidy(() => {
      const z = normals(rows! * cols!, seed, 2);
      const u = normals(rows! * cols!, seed + 1, 2);
      const labels = Int32Array.from({ length: rows! }, (_, r) => (7 * r) % cols!);
      const student = asTensor(z, cols!, device, dtype);
      const teacher = asTensor(u, cols!, device, dtype);
      type Case = ReturnType<typeof lossAndGradient>;
      const relative = (a: Case, b: Case, factor = 1): number =>
        Math.max(
          Math.abs(a.loss * factor - b.loss) / Math.abs(b.loss),
          largestGap(
            a.gradient.map((value) => value * factor),
            b.gradient,
          ) / largestGap(b.gradient, 0),
        );
      // A teacher that gives its label all but e⁻²⁰⁰.
      const sure = u.slice();
      labels.forEach((label, r) => (sure[r * cols! + label] = 200));
      const asCrossEntropy = lossAndGradient(student, (x) => plackettLuceLoss(x, asTensor(sure, cols!, device, dtype), { labels }));
      const even = lossAndGradient(student, (x) => plackettLuceLoss(x, teacher, { temperature: 1e6 }));
      const list = lossAndGradient(student, (x) => listMleLoss(x, teacher));
      const some = lossAndGradient(student, (x) => plackettLuceLoss(x, teacher, { labels, temperature: 2 }));
      const moved = lossAndGradient(student, (x) => plackettLuceLoss(addScalar(x, 5), teacher, { labels, temperature: 2 }));
      // Ties in groups of three; against a teacher that falls within each group.
      const tied = Float64Array.from(u, (_, i) => -Math.floor((i % cols!) / 3));
      const falling = Float64Array.from(u, (_, i) => tied[i]! - 1e-3 * ((i % cols!) % 3));
      const order = (values: Float64Array): Case => lossAndGradient(student, (x) => listMleLoss(x, asTensor(values, cols!, device, dtype)));
      const [ties, broken] = [order(tied), order(falling)];

      const alpha = softmaxOf(u, cols!, 2);
      const formula = new Float64Array(z.length);
      for (let r = 0; r < rows!; r++) {
        const own = z.subarray(r * cols!, (r + 1) * cols!);
        const other = u.subarray(r * cols!, (r + 1) * cols!);
        const rest = Array.from({ length: cols! }, (_, c) => c)
          .filter((c) => c !== labels[r])
          .sort((a, b) => other[b]! - other[a]! || a - b);
        const list = [labels[r]!, ...rest];
        const weight = rowOf(alpha, r, cols!);
        const after = new Float64Array(cols! + 1);
        for (let k = cols! - 1; k >= 0; k--) after[k] = after[k + 1]! + Math.exp(own[list[k]!]!);
        let sum = 0;
        list.forEach((c, k) => {
          sum += weight[c]! / after[k]!;
          formula[r * cols! + c] = (Math.exp(own[c]!) * sum - weight[c]!) / rows!;
        });
      }

      const [large, largeTeacher] = [
        asTensor(normals(2 * wide!, seed + 2, 3), wide!, device),
        asTensor(normals(2 * wide!, seed + 3, 3), wide!, device),
      ];
      const big = lossAndGradient(large, (x) => plackettLuceLoss(x, largeTeacher, { labels: [0, wide! - 1] }));
      const sums = [0, 1].map((r) => Math.abs(rowOf(big.gradient, r, wide!).reduce((total, value) => total + value, 0)));
      return {
        values: {
          crossEntropyGap: relative(
            asCrossEntropy,
            lossAndGradient(student, (x) => crossEntropy(x, labels)),
          ),
          listMleGap: relative(even, list, cols),
          offsetGap: relative(moved, some),
          tieGap: Math.max(Math.abs(ties.loss - broken.loss), largestGap(ties.gradient, broken.gradient)),
          gradientError: largestGap(some.gradient, formula) / largestGap(formula, 0),
          wideSum: Math.max(...sums) / largestGap(big.gradient, 0),
          wideLoss: big.loss,
        },
      };
    });
  },
};
