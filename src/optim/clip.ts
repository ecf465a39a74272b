// Clipping by the norm of all gradients together.
import { checkOptions, checkPositive, checkTensors } from '../check.js';
import { kindError, valueError } from '../errors.js';
import { findCode, kernel } from '../native.js';
import { emptyLike, gradientOf, handleOf, hostCopy, type Tensor } from '../tensor.js';

const action = 'clip gradients';
const reduceKernel = kernel('reduce', action);
const unaryKernel = kernel('unary', action);

/** The Euclidean norm of all gradients together; waits for the device. */
export function gradNorm(parameters: Iterable<Tensor>): number {
  let squares = 0;
  for (const parameter of checkTensors(action, 'parameters', parameters)) {
    const gradient = gradientOf(parameter);
    if (gradient === null) continue;
    const sum = emptyLike(gradient, action, [1]);
    reduceKernel(handleOf(gradient, action), handleOf(sum, action), 1, gradient.size, findCode('reduce', 'sum_squares'), 1);
    squares += hostCopy(sum, action)[0]!;
    sum.dispose();
  }
  return Math.sqrt(squares);
}

/** Options of {@link clipGradNorm}. */
export interface ClipOptions {
  /** What the step will multiply the gradients by (`StepOptions`): the norm that counts is that of the product. Default 1. */
  gradientScale?: number;
}

/**
 * Scales all gradients down so that their norm together, times `gradientScale`, is at most `maxNorm`. A norm that is not finite changes nothing.
 *
 * @returns the norm before clipping, times `gradientScale`
 */
export function clipGradNorm(parameters: Iterable<Tensor>, maxNorm: number, options?: ClipOptions): number {
  if (typeof maxNorm !== 'number') throw kindError(action, 'maxNorm must be a number', maxNorm);
  if (!(maxNorm > 0)) throw valueError(action, 'maxNorm must be > 0', maxNorm);
  const { gradientScale = 1 } = checkOptions(action, options, ['gradientScale']);
  checkPositive(action, 'gradientScale', gradientScale);
  const list = checkTensors(action, 'parameters', parameters);
  const norm = gradientScale * gradNorm(list);
  if (!(norm > maxNorm) || norm === Infinity) return norm;
  for (const parameter of list) {
    const gradient = gradientOf(parameter);
    if (gradient === null) continue;
    unaryKernel(handleOf(gradient, action), handleOf(gradient, action), gradient.size, findCode('unary', 'scale'), maxNorm / norm);
  }
  return norm;
}
