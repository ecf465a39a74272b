// BiLD and DBiLD: what the differences of leading logits say, and where their gradient goes.
import { tidy } from '../../autograd.js';
import { bildLoss, dbildLoss } from '../../losses/index.js';
import { addScalar } from '../../ops/index.js';
import { asTensor, largestGap, lossAndGradient, normals, rowOf, widest } from './numbers.js';
import type { Probe } from './types.js';

/** Item 12: one pair, all pairs by hand, offsets, and the gradient of either selection. */
export const bildIdentities: Probe = {
  name: 'bild_identities',
  says: 'BiLD and DBiLD against pairs counted by hand: k = 2, both directions and selections, offsets, and who gets a gradient.',
  source: 'BiLD 2024 (arXiv 2406.13555); Switch-KD 2026',
  options: {
    rows: { says: 'Rows.', default: 6, least: 1, most: 4096, whole: true },
    cols: { says: 'Classes.', default: 40, least: 4, most: 65536, whole: true },
    k: { says: 'Leading logits.', default: 8, least: 3, most: 64, whole: true },
    temperature: { says: 'Temperature of the differences.', default: 3, least: 0.01, most: 100 },
  },
  values: {
    pairLoss: 'loss and largest gradient with k = 2, where there is one pair and nothing to learn: 0',
    forwardGap: 'relative difference of BiLD by the teacher’s selection from KL over the pairs by hand',
    reverseGap: 'the same of DBiLD by the student’s selection',
    gradientError: 'largest difference of BiLD’s gradient from its formula, by the largest',
    offsetGap: 'relative change of the loss by adding 5 to the student’s logits',
    strayGradients: 'gradients that are not 0 outside of the k selected columns',
    missingGradients: 'selected columns whose gradient is 0',
    bothGap: 'relative difference of both selections from the sum of each',
  },
  run(options, { device, seed }) {
    const { rows, cols, k, temperature } = options as Record<string, number>;
    const dtype = widest(device);
    return tidy(() => {
      const z = Float64Array.from(normals(rows! * cols!, seed, 3));
      const u = Float64Array.from(normals(rows! * cols!, seed + 1, 3));
      const student = asTensor(z, cols!, device, dtype);
      const teacher = asTensor(u, cols!, device, dtype);
      const size = { k: Math.min(k!, cols!), temperature: temperature! };
      const best = (x: Float64Array, r: number): number[] => {
        const row = rowOf(x, r, cols!);
        return Array.from({ length: cols! }, (_, c) => c)
          .sort((a, b) => row[b]! - row[a]! || a - b)
          .slice(0, size.k);
      };
      /** Softmax over the pairs i < j of a row's differences. */
      const pairs = (x: Float64Array, r: number, order: number[]): { pair: [number, number]; p: number }[] => {
        const all = order.flatMap((a, i) => order.slice(i + 1).map((b): [number, number] => [a, b]));
        const values = all.map(([a, b]) => (x[r * cols! + a]! - x[r * cols! + b]!) / temperature!);
        const most = Math.max(...values);
        const sum = values.reduce((total, value) => total + Math.exp(value - most), 0);
        return all.map((pair, i) => ({ pair, p: Math.exp(values[i]! - most) / sum }));
      };
      let forward = 0;
      let reverse = 0;
      let stray = 0;
      let missing = 0;
      const formula = new Float64Array(z.length);
      const led = lossAndGradient(student, (x) => bildLoss(x, teacher, { ...size, lead: 'teacher' }));
      const own = lossAndGradient(student, (x) => dbildLoss(x, teacher, { ...size, lead: 'student' }));
      for (let r = 0; r < rows!; r++) {
        const order = best(u, r);
        const [wanted, had] = [pairs(u, r, order), pairs(z, r, order)];
        wanted.forEach(({ pair: [a, b], p }, i) => {
          const q = had[i]!.p;
          forward += (p * Math.log(p / q)) / rows!;
          formula[r * cols! + a]! += (q - p) / (temperature! * rows!);
          formula[r * cols! + b]! -= (q - p) / (temperature! * rows!);
        });
        const chosen = best(z, r);
        const [other, mine] = [pairs(u, r, chosen), pairs(z, r, chosen)];
        mine.forEach(({ p: q }, i) => (reverse += (q * Math.log(q / other[i]!.p)) / rows!));
        rowOf(own.gradient, r, cols!).forEach((g, c) => {
          const isChosen = chosen.includes(c);
          if (isChosen && g === 0) missing++;
          if (!isChosen && g !== 0) stray++;
        });
      }
      const pair = lossAndGradient(student, (x) => bildLoss(x, teacher, { k: 2 }));
      const moved = lossAndGradient(student, (x) => bildLoss(addScalar(x, 5), teacher, { ...size, lead: 'teacher' }));
      const both = lossAndGradient(student, (x) => dbildLoss(x, teacher, size)).loss;
      const each = (['teacher', 'student'] as const).map(
        (lead) => lossAndGradient(student, (x) => dbildLoss(x, teacher, { ...size, lead })).loss,
      );
      const sum = each[0]! + each[1]!;
      return {
        values: {
          pairLoss: Math.max(Math.abs(pair.loss), largestGap(pair.gradient, 0)),
          forwardGap: Math.abs(led.loss - forward) / forward,
          reverseGap: Math.abs(own.loss - reverse) / reverse,
          gradientError: largestGap(led.gradient, formula) / largestGap(formula, 0),
          offsetGap: Math.abs(moved.loss - led.loss) / led.loss,
          strayGradients: stray,
          missingGradients: missing,
          bothGap: Math.abs(both - sum) / sum,
        },
      };
    });
  },
};
