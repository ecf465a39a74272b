// Softening operators on probabilities: rank kept, entropy up with the temperature, nothing changed at 1.
import { checkComputed, checkOneOf, checkOptions, checkPositive, checkRows } from '../check.js';
import { phrase, valueError } from '../errors.js';
import type { Tensor } from '../tensor.js';
import { softmax } from './softmax.js';
import { addScalar, log, scale } from './unary.js';

/** Options of {@link soften}. */
export interface SoftenOptions {
  /** Default 'power'. */
  operator?: 'power' | 'uniform_mix';
  /** A positive number; 'power' also takes a Tensor with one for each row, 'uniform_mix' needs at least 1. Default 1. */
  temperature?: number | Tensor;
}

/**
 * Softer probabilities from probabilities.
 *
 * - `'power'`: pᵢ^{1/T} / Σⱼ pⱼ^{1/T}, which is softmax(ln p / T): what the temperature does to logits (Hinton et al. 2015).
 * - `'uniform_mix'`: (1 − ε)·p + ε/V with ε = 1 − 1/T, T ≥ 1.
 *
 * @param probs [..., V], float32, or float64 on the CPU
 * @throws RangeError for a temperature outside the operator's range
 *
 * @example
 * soften(tensor([[0.9, 0.1]]), { operator: 'uniform_mix', temperature: 2 }); // [[0.7, 0.3]]
 */
export function soften(probs: Tensor, options?: SoftenOptions): Tensor {
  const action = 'compute soften';
  checkComputed(action, 'probs', probs);
  const { operator = 'power', temperature = 1 } = checkOptions(action, options, ['operator', 'temperature']);
  checkOneOf(action, 'operator', operator, ['power', 'uniform_mix']);
  const { cols } = checkRows(action, 'probs', probs, 1);
  if (operator === 'power') {
    if (typeof temperature === 'number' && checkPositive(action, 'temperature', temperature) === 1) return probs.clone();
    return softmax(log(probs), { temperature });
  }
  const T = checkPositive(action, 'temperature', temperature);
  if (T < 1) throw valueError(action, "temperature must be at least 1 for 'uniform_mix'", phrase(`it is ${T}`));
  return addScalar(scale(probs, 1 / T), (1 - 1 / T) / cols);
}
