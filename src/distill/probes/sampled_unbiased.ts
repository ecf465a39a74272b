// Sampled targets are unbiased, and top-k targets of the same size are not.
import { tidy } from '../../autograd.js';
import { kdLoss } from '../../losses/index.js';
import { captureTopK, sampleTarget, type SampleMethod, type SparseTarget } from '../../targets/index.js';
import { hostCopy } from '../../tensor.js';
import { asTensor, largestGap, lossAndGradient, normals, norm, softmaxOf } from './numbers.js';
import type { Probe } from './types.js';

const methods: readonly SampleMethod[] = ['with_replacement', 'race', 'head_tail'];

/** Item 3: the mean of many sampled targets, and of their gradients, against the whole teacher. */
export const sampledUnbiased: Probe = {
  name: 'sampled_unbiased',
  says: 'Many sampled targets of one row: their mean against p (χ²), their mean gradient against q − p, beside top-k of the same size.',
  source: 'Random sampling KD 2025 (arXiv 2503.16870)',
  options: {
    cols: { says: 'Outcomes.', default: 200, least: 4, most: 65536, whole: true },
    draws: { says: 'Draws of each target.', default: 12, least: 1, most: 65536, whole: true },
    targets: { says: 'Targets that are averaged.', default: 4000, least: 100, most: 1000000, whole: true },
    spread: { says: 'Standard deviation of the logits.', default: 2, least: 0, most: 20 },
  },
  values: {
    chiSquare: 'χ² of the counts of with_replacement, as standard deviations from its expectation',
    'deviation.with_replacement': 'root mean square of (mean weight − p) in standard errors: 1 where there is no bias',
    'deviation.race': 'the same of race',
    'deviation.head_tail': 'the same of head_tail',
    'gradientError.with_replacement': '‖mean gradient − (q − p)‖ by ‖q − p‖',
    'gradientError.race': 'the same of race',
    'gradientError.head_tail': 'the same of head_tail',
    'gradientError.topk_truncate': 'the same of top-k with as many entries as draws, truncated: a bias, which no averaging takes away',
    'gradientError.topk_renormalize': 'the same, renormalised',
    kernelGap: 'largest difference of the gradient of one sampled target from Σt·q − t',
  },
  run(options, { device, seed }) {
    const { cols, draws, targets, spread } = options as Record<string, number>;
    const row = normals(cols!, seed, spread);
    const p = softmaxOf(row, cols!);
    const z = normals(cols!, seed + 1, spread);
    const q = softmaxOf(z, cols!);
    const wanted = q.map((value, i) => value - p[i]!);
    const values: Record<string, number> = {};
    // A chunk of equal rows at a time: rows draw independently, and rowOffset goes on where the last chunk ended.
    const chunk = Math.max(1, Math.min(targets!, Math.floor(4_000_000 / cols!)));
    for (const method of methods) {
      const sums = new Float64Array(cols!);
      const squares = new Float64Array(cols!);
      for (let first = 0; first < targets!; first += chunk) {
        const count = Math.min(chunk, targets! - first);
        tidy(() => {
          const tiled = new Float32Array(count * cols!);
          for (let r = 0; r < count; r++) tiled.set(row, r * cols!);
          const target = sampleTarget(asTensor(tiled, cols!, device), draws!, { method, seed, rowOffset: first });
          const ids = hostCopy(target.indices, 'read draws');
          const weights = hostCopy(target.weights!, 'read draws');
          for (let i = 0; i < ids.length; i++) {
            if (ids[i] === -1) continue;
            sums[ids[i]!]! += weights[i]!;
            squares[ids[i]!]! += weights[i]! ** 2;
          }
        });
      }
      const n = targets!;
      let total = 0;
      let counted = 0;
      let chi = 0;
      let cells = 0;
      for (let c = 0; c < cols!; c++) {
        const average = sums[c]! / n;
        const variance = squares[c]! / n - average ** 2;
        const expected = p[c]! * n * draws!;
        if (expected < 5) continue;
        cells++;
        chi += (sums[c]! * draws! - expected) ** 2 / expected;
        // Ids that every target holds with their exact weight vary by rounding alone.
        if (variance <= 1e-12 * average ** 2) continue;
        total += (average - p[c]!) ** 2 / (variance / n);
        counted++;
      }
      if (method === 'with_replacement') values['chiSquare'] = (chi - cells) / Math.sqrt(2 * cells);
      values[`deviation.${method}`] = Math.sqrt(total / Math.max(1, counted));
      // The gradient is linear in the target: mass·q − t.
      const mass = sums.reduce((sum, value) => sum + value, 0) / n;
      const gradient = q.map((value, c) => mass * value - sums[c]! / n);
      values[`gradientError.${method}`] = norm(gradient.map((value, c) => value - wanted[c]!)) / norm(wanted);
    }
    const gradientOf = (target: SparseTarget, residual: 'truncate' | 'renormalize'): Float64Array =>
      lossAndGradient(asTensor(z, cols!, device), (x) => kdLoss(x, target, { residual })).gradient;
    tidy(() => {
      const best = captureTopK(asTensor(row, cols!, device), Math.min(draws!, cols!));
      for (const residual of ['truncate', 'renormalize'] as const)
        values[`gradientError.topk_${residual}`] = norm(gradientOf(best, residual).map((value, c) => value - wanted[c]!)) / norm(wanted);
      // And that the loss of one sampled target has that gradient.
      const one = sampleTarget(asTensor(row, cols!, device), draws!, { seed });
      const dense = new Float64Array(cols!);
      const weights = hostCopy(one.weights!, 'read draws');
      hostCopy(one.indices, 'read draws').forEach((id: number, i: number) => id !== -1 && (dense[id]! += weights[i]!));
      const mass = dense.reduce((sum, value) => sum + value, 0);
      const { gradient } = lossAndGradient(asTensor(z, cols!, device), (x) => kdLoss(x, one));
      values['kernelGap'] = largestGap(
        gradient,
        q.map((value, c) => mass * value - dense[c]!),
      );
    });
    return { values };
  },
};
