// Dropout with a mask that is a pure function of seed and position, so that backward needs no stored mask.
import { defineOp, type Computed } from '../autograd.js';
import { checkDType, checkNumber, checkOptions, checkTensor, checkWhole } from '../check.js';
import { valueError } from '../errors.js';
import { kernel } from '../native.js';
import { freshSeed } from '../random.js';
import { emptyLike, handleOf, type Tensor } from '../tensor.js';

/** Options of {@link dropout}. */
export interface DropoutOptions {
  /** Same seed and offset, same elements, on every device. Default: a fresh one. */
  seed?: number;
  /** Where in the seed's sequence this call begins. Default 0. */
  offset?: number;
}

/**
 * Each element is 0 with the probability given, otherwise x / (1 − probability).
 *
 * @param x float32, any shape
 * @param probability in [0, 1)
 */
export const dropout = defineOp({
  name: 'dropout',
  run: (x: Tensor, probability: number, options?: DropoutOptions): Computed => {
    const action = 'compute dropout';
    checkTensor(action, 'x', x);
    checkDType(action, 'x', x, 'float32');
    checkNumber(action, 'probability', probability);
    if (!(probability >= 0 && probability < 1)) throw valueError(action, 'probability must be in [0, 1)', probability);
    const { seed = freshSeed(), offset = 0 } = checkOptions(action, options, ['seed', 'offset']);
    checkWhole(action, 'seed', seed);
    checkWhole(action, 'offset', offset);
    const apply = (from: Tensor): Tensor => {
      const out = emptyLike(from, action);
      if (from.size > 0) kernel('dropout', action)(handleOf(from, action), handleOf(out, action), from.size, probability, seed, offset);
      return out;
    };
    return { out: apply(x), inputs: [x], backward: (gradient) => [apply(gradient)] };
  },
});
