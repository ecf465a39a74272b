// TinyViT's target: the k best and the rest spread evenly, rebuilt on the fly.
import { tidy } from '../../autograd.js';
import { memory } from '../../device.js';
import { kdLoss } from '../../losses/index.js';
import { captureTopK, denseTarget } from '../../targets/index.js';
import { hostCopy } from '../../tensor.js';
import { asTensor, largestGap, lossAndGradient, normals, softmaxOf } from './numbers.js';
import type { Probe } from './types.js';

/** Item 4: the sparse target with residual 'uniform' against the dense one it stands for. */
export const tinyvitTarget: Probe = {
  name: 'tinyvit_target',
  says: 'A top-k target with its residual spread evenly: the rebuilt row, its gradient, and the memory that the loss takes.',
  source: 'TinyViT 2022 (arXiv 2207.10666)',
  options: {
    rows: { says: 'Rows.', default: 32, least: 1, most: 65536, whole: true },
    cols: { says: 'Classes.', default: 2000, least: 3, most: 1000000, whole: true },
    k: { says: 'Entries that are kept.', default: 10, least: 1, most: 1000, whole: true },
    spread: { says: 'Standard deviation of the logits.', default: 3, least: 0, most: 30 },
  },
  values: {
    sumGap: 'largest |Σ − 1| of the rebuilt rows',
    gradientGap: 'largest difference of the gradients of sparse and rebuilt dense target, by the largest gradient',
    lossGap: 'relative difference of the two losses',
    stateArrays: 'arrays of rows × cols that are alive after the loss besides the student: the gradient, 1',
    targetShare: 'bytes of the sparse target by those of a dense one',
  },
  run(options, { device, seed }) {
    const { rows, cols, k, spread } = options as Record<string, number>;
    return tidy(() => {
      const u = asTensor(normals(rows! * cols!, seed, spread), cols!, device);
      const z = asTensor(normals(rows! * cols!, seed + 1, spread), cols!, device);
      const target = captureTopK(u, k!);
      const ids = hostCopy(target.indices, 'read a target');
      const logs = hostCopy(target.logProbs!, 'read a target');
      const tail = hostCopy(target.tailLogMass!, 'read a target');
      const rebuilt = new Float64Array(rows! * cols!);
      let sumGap = 0;
      for (let r = 0; r < rows!; r++) {
        rebuilt.fill(Math.exp(tail[r]!) / (cols! - k!), r * cols!, (r + 1) * cols!);
        for (let j = r * k!; j < (r + 1) * k!; j++) rebuilt[r * cols! + ids[j]!] = Math.exp(logs[j]!);
        let sum = 0;
        for (let c = 0; c < cols!; c++) sum += rebuilt[r * cols! + c]!;
        sumGap = Math.max(sumGap, Math.abs(sum - 1));
      }
      const sparse = lossAndGradient(z, (x) => kdLoss(x, target, { residual: 'uniform' }));
      const dense = lossAndGradient(z, (x) => kdLoss(x, denseTarget({ probs: asTensor(rebuilt, cols!, device) })));
      const own = z.clone();
      own.requiresGrad = true;
      const before = memory()[device]!.bytes;
      const loss = kdLoss(own, target, { residual: 'uniform' });
      const stateArrays = (memory()[device]!.bytes - before) / (rows! * cols! * 4);
      loss.dispose();
      // The gradient by its formula too: q − t′.
      const q = softmaxOf(hostCopy(z, 'read logits') as Float32Array, cols!);
      const formula = q.map((value, i) => (value - rebuilt[i]!) / rows!);
      const most = largestGap(formula, 0);
      return {
        values: {
          sumGap,
          gradientGap: Math.max(largestGap(sparse.gradient, dense.gradient), largestGap(sparse.gradient, formula)) / most,
          lossGap: Math.abs(sparse.loss - dense.loss) / dense.loss,
          stateArrays,
          targetShare: (2 * k! + 1) / cols!,
        },
      };
    });
  },
};
