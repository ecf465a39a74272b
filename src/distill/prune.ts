// Magnitude pruning: which weights stay, by size over all layers together.
import { kindError } from '../errors.js';

/**
 * Masks (1 keeps, 0 prunes) that leave round((1 − sparsity) · weights) of the largest weights, counted over all arrays together.
 * What an earlier mask pruned stays pruned. Ties: the weight that comes first is pruned first.
 *
 * @param weights The weights of each layer.
 * @param sparsity Share of all weights that is zero afterwards, in [0, 1).
 * @param earlier Masks of an earlier stage, one per layer.
 */
export function magnitudeMasks(weights: readonly Float32Array[], sparsity: number, earlier?: readonly Float32Array[]): Float32Array[] {
  if (typeof sparsity !== 'number') throw kindError('prune', 'sparsity must be a number', sparsity);
  if (!(sparsity >= 0 && sparsity < 1)) throw new RangeError(`Cannot prune: sparsity must be in [0, 1): current value is ${sparsity}`);
  for (const layers of [weights, earlier ?? []]) {
    if (!Array.isArray(layers) || !layers.every((layer) => layer instanceof Float32Array))
      throw kindError('prune', 'weights and masks must be arrays of Float32Arrays', layers);
  }
  const total = weights.reduce((sum, w) => sum + w.length, 0);
  const size = new Float32Array(total);
  let at = 0;
  weights.forEach((layer, l) => {
    const mask = earlier?.[l];
    if (mask && mask.length !== layer.length) {
      throw new RangeError(`Cannot prune: mask ${l} must have ${layer.length} entries like its weights: it has ${mask.length}`);
    }
    for (let i = 0; i < layer.length; i++) size[at++] = mask && mask[i] === 0 ? -1 : Math.abs(layer[i]!);
  });
  const count = Math.round(sparsity * total);
  // The threshold is the count-th smallest; ties at it are pruned in order until the count is met.
  const threshold = count > 0 ? size.slice().sort()[count - 1]! : -Infinity;
  let ties = count;
  for (const s of size) if (s < threshold) ties--;
  at = 0;
  return weights.map((layer) => {
    const mask = new Float32Array(layer.length).fill(1);
    for (let i = 0; i < layer.length; i++, at++) {
      const s = size[at]!;
      if (s < threshold || (s === threshold && ties-- > 0)) mask[i] = 0;
    }
    return mask;
  });
}
