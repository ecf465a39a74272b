// Features compared row by row: mean squared error, cosine, Huber.
import { tidy } from '../../autograd.js';
import { checkBoolean, checkOptions, checkPositive } from '../../check.js';
import { add, silenced, sub } from '../../ops/binary.js';
import { normalize } from '../../ops/normalize.js';
import { applyReduce, mean, sum } from '../../ops/reduce.js';
import { abs, addScalar, relu, scale, square } from '../../ops/unary.js';
import type { Tensor } from '../../tensor.js';
import { composeRowLoss, constants, isNotZero } from '../row_loss.js';
import { checkFeatures, featureNames, type FeatureLossOptions } from './pairs.js';

/** Options of {@link featureMse}. */
export interface FeatureMseOptions extends FeatureLossOptions {
  /** Both sides' rows are brought to length 1 first, as in Patient KD. Default false. */
  normalize?: boolean;
}

/** Options of {@link featureHuber}. */
export interface FeatureHuberOptions extends FeatureLossOptions {
  /** Where the parabola becomes a line, a positive number. Default 1. */
  delta?: number;
}

/** Rows of a projected student and of a teacher to a loss of each row. */
function compared(
  action: string,
  student: Tensor,
  teacher: Tensor,
  options: FeatureLossOptions,
  compose: (student: Tensor, teacher: Tensor) => Tensor,
): Tensor {
  const { student: rows, teacher: wanted } = checkFeatures(action, student, teacher, options);
  return composeRowLoss(action, rows, options, null, (z) => (rows.rows === 0 ? sum(z, { axis: -1 }) : compose(z, wanted)));
}

/**
 * Mean squared error of features (FitNets, arXiv 1412.6550, equation 3; hidden states of TinyBERT, arXiv 1909.10351, equation 8):
 *
 * row i = w_i · mean_j ((P h_s)_ij − h_ij)²,  ∂/∂(P h_s)_ij = 2 w_i ((P h_s)_ij − h_ij) / width.
 *
 * With `normalize` both rows are divided by their lengths first (Patient KD, arXiv 1908.09355, equation 7). Equal features have loss and gradient 0.
 *
 * @param student features [..., width], float32, or float64 on the CPU
 * @param teacher features of the same rows, as wide as the student or what the projector makes of it
 * @returns a single number, or with reduction 'none' one for each row in the student's leading shape
 * @throws RangeError where rows or widths differ, TypeError for a teacher that requires grad
 *
 * @example
 * featureMse(hidden, teacherHidden, { projector: new FeatureProjector(128, 768) });
 */
export function featureMse(student: Tensor, teacher: Tensor, options?: FeatureMseOptions): Tensor {
  return tidy(() => {
    const action = 'compute featureMse';
    const { normalize: unit = false, ...given } = checkOptions(action, options, [...featureNames, 'normalize']);
    checkBoolean(action, 'normalize', unit);
    return compared(action, student, teacher, given, (z, t) => {
      const difference = unit
        ? sub(
            normalize(z),
            constants(() => normalize(t)),
          )
        : sub(z, t);
      return mean(square(difference), { axis: -1 });
    });
  });
}

/**
 * Cosine distance of features (DistilBERT, arXiv 1910.01108): with ĥ = h/‖h‖,
 *
 * row i = w_i · (1 − ⟨ĥ_s, ĥ_t⟩),  ∂/∂h_s = −w_i (ĥ_t − ⟨ĥ_s, ĥ_t⟩ ĥ_s)/‖h_s‖.
 *
 * Computed as ½‖ĥ_s − ĥ_t‖², exact also where the rows are nearly parallel. A row of zeros on either side has loss 1, and gradient 0 on the student's.
 *
 * @param student features [..., width], float32, or float64 on the CPU
 * @param teacher features of the same rows, as wide as the student or what the projector makes of it
 * @returns a single number, or with reduction 'none' one for each row, in [0, 2]
 * @throws RangeError where rows or widths differ, TypeError for a teacher that requires grad
 */
export function featureCosine(student: Tensor, teacher: Tensor, options?: FeatureLossOptions): Tensor {
  return tidy(() => {
    const action = 'compute featureCosine';
    const given = checkOptions(action, options, featureNames);
    return compared(action, student, teacher, given, (z, t) => {
      const own = normalize(z);
      const [rows, cols] = z.shape as [number, number];
      const { wanted, missing, halves } = constants(() => {
        const direction = normalize(t);
        const isThere = (x: Tensor): Tensor => isNotZero(action, applyReduce(action, 'sum_squares', x.detach(), rows, cols, 1, [rows]));
        const both = silenced(isThere(own), isThere(direction));
        // Where a side is 0 the cosine is: the loss is 1, whatever the other side is.
        return { wanted: direction, halves: scale(both, 0.5), missing: addScalar(scale(both, -1), 1) };
      });
      return add(silenced(sum(square(sub(own, wanted)), { axis: -1 }), halves), missing);
    });
  });
}

/**
 * Huber loss of features (Huber 1964), the mean over a row of ½e² where |e| ≤ δ, else δ·(|e| − ½δ), e = P h_s − h_t:
 * an outlier among the features pulls no harder than δ. Gradient: w_i · clamp(e, −δ, δ) / width.
 *
 * @param student features [..., width], float32, or float64 on the CPU
 * @param teacher features of the same rows, as wide as the student or what the projector makes of it
 * @returns a single number, or with reduction 'none' one for each row in the student's leading shape
 * @throws RangeError where rows or widths differ, TypeError for a teacher that requires grad
 */
export function featureHuber(student: Tensor, teacher: Tensor, options?: FeatureHuberOptions): Tensor {
  return tidy(() => {
    const action = 'compute featureHuber';
    const { delta = 1, ...given } = checkOptions(action, options, [...featureNames, 'delta']);
    checkPositive(action, 'delta', delta);
    return compared(action, student, teacher, given, (z, t) => mean(huber(sub(z, t), delta), { axis: -1 }));
  });
}

/** ½e² where |e| ≤ δ, else δ·(|e| − ½δ), element by element. */
export function huber(e: Tensor, delta: number): Tensor {
  const size = abs(e);
  const beyond = relu(addScalar(size, -delta));
  return add(scale(square(sub(size, beyond)), 0.5), scale(beyond, delta));
}
