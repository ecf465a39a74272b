// Clipping by the norm of all gradients together.
import { checkOptions, checkPositive, checkTensors } from '../check.js';
import { kindError, valueError } from '../errors.js';
import { kernel } from '../native.js';
import { emptyLike, gradientOf, handleOf, hostCopy, type Tensor } from '../tensor.js';
import { perDevice } from './optimizer.js';

const action = 'clip gradients';
const squareSumsKernel = kernel('square_sums', action);
const scaleKernel = kernel('scale_tensors', action);

/** The gradients there are, each once, a list for each device. */
function gradientsOf(parameters: Iterable<Tensor>): Iterable<Tensor[]> {
  const gradients = Array.from(new Set(parameters), gradientOf).filter((gradient) => gradient !== null);
  return perDevice(gradients, (gradient) => gradient);
}

/** The Euclidean norm of all gradients together, a parameter that is listed twice counted once; waits for the device, once for each there is. */
export function gradNorm(parameters: Iterable<Tensor>): number {
  let squares = 0;
  for (const gradients of gradientsOf(checkTensors(action, 'parameters', parameters))) {
    const sums = emptyLike(gradients[0]!, action, [gradients.length], 'float64');
    squareSumsKernel(
      gradients.map((each) => handleOf(each, action)),
      gradients.map(({ size }) => size),
      handleOf(sums, action),
    );
    for (const sum of hostCopy(sums, action)) squares += sum;
    sums.dispose();
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
 * One native call for all gradients of a device; a parameter that is listed twice counts once in the norm and is scaled once.
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
  for (const gradients of gradientsOf(list))
    scaleKernel(
      gradients.map((each) => handleOf(each, action)),
      gradients.map(({ size }) => size),
      maxNorm / norm,
    );
  return norm;
}
