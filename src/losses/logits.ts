// Losses on the logits themselves: squared error, concrete scores, standardised logits.
import { tidy } from '../autograd.js';
import { checkBoolean, checkOneOf, checkOptions } from '../check.js';
import { kindError } from '../errors.js';
import { add, mul, silenced, sub } from '../ops/binary.js';
import { applyReduce, mean, sum } from '../ops/reduce.js';
import { softmax } from '../ops/softmax.js';
import { standardize } from '../ops/standardize.js';
import { checkTemperature } from '../ops/temperature.js';
import { scale, square } from '../ops/unary.js';
import { uniformLike, type Tensor } from '../tensor.js';
import { kdLoss } from './kd_loss.js';
import {
  checkRowsOf,
  checkTeacher,
  composedNames,
  composeRowLoss,
  constants,
  faultOf,
  isNotZero,
  type ComposedLossOptions,
} from './row_loss.js';
import type { Divergence } from './divergences.js';

/** Options of {@link logitMseLoss}. */
export interface LogitMseOptions extends ComposedLossOptions {
  /** Leaves out the mean of z − u, which no softmax sees: ½‖(z − u) − mean(z − u)‖². Default false. */
  centred?: boolean;
}

/**
 * Squared error of logits (Ba & Caruana 2014; Tang et al. 2019): row = w · ½ Σ_j (z_j − u_j)², ∂/∂z = z − u.
 *
 * @param student logits [..., cols], float32, or float64 on the CPU; −∞ on one side makes the row +∞, on both sides NaN
 * @param teacher logits of the same shape
 * @returns a single number, or with reduction 'none' one for each row in the student's leading shape
 */
export function logitMseLoss(student: Tensor, teacher: Tensor, options?: LogitMseOptions): Tensor {
  return tidy(() => {
    const action = 'compute logitMseLoss';
    const given = checkOptions(action, options, [...composedNames, 'centred']);
    const { centred = false } = given;
    checkBoolean(action, 'centred', centred);
    const part = checkRowsOf(action, 'student', student);
    const logits = checkTeacher(action, teacher, part);
    const { rows, cols } = part;
    return composeRowLoss(action, part, given, null, (z) => {
      let delta = sub(z, logits);
      if (centred) {
        // A constant first, so that the mean is of small numbers whatever the offset.
        delta = sub(delta, applyReduce(action, 'max', delta.detach(), rows, cols, 1, [rows, 1]));
        delta = sub(delta, mean(delta, { axis: -1, keepDims: true }));
      }
      const fault = add(faultOf(action, z.detach(), rows, cols), faultOf(action, logits, rows, cols));
      return add(scale(sum(square(delta), { axis: -1 }), 0.5), fault);
    });
  });
}

/** What weighs the pairs of a concrete score. */
export type ScoreWeights = 'student' | 'teacher' | 'uniform';

/** Options of {@link concreteScoreLoss}. */
export interface ConcreteScoreOptions extends ComposedLossOptions {
  /** w₁ and w₂: probabilities of the student or the teacher, or 1/V. Default ['student', 'student'], the authors' choice. */
  weights?: readonly [ScoreWeights, ScoreWeights];
}

/**
 * Concrete score distillation (CSD, arXiv 2509.25837): all differences of logits, weighted, without a sum over pairs. With
 * δ = z − u,
 *
 * row = w · ½ Σ_y Σ_x w₁(y)·w₂(x)·(δ_x − δ_y)²,  ∂/∂z = w₂⊙(δ − E_{w₁} δ) + w₁⊙(δ − E_{w₂} δ),
 *
 * computed as ½ Σ (w₁ + w₂)·(δ − E_{w₁} δ)², which is the same without cancellation and in O(V). The weights have
 * no gradient. An offset of either side changes nothing. The authors' code has half this gradient.
 *
 * @param student logits [..., cols], float32, or float64 on the CPU; an entry that neither side gives any weight contributes 0
 * @param teacher logits of the same shape
 * @returns a single number, or with reduction 'none' one for each row in the student's leading shape
 */
export function concreteScoreLoss(student: Tensor, teacher: Tensor, options?: ConcreteScoreOptions): Tensor {
  return tidy(() => {
    const action = 'compute concreteScoreLoss';
    const given = checkOptions(action, options, [...composedNames, 'weights']);
    const { weights = ['student', 'student'] } = given;
    if (!Array.isArray(weights) || weights.length !== 2) throw kindError(action, 'weights must be two names', weights);
    weights.forEach((name, i) => checkOneOf(action, `weights[${i}]`, name, ['student', 'teacher', 'uniform']));
    const part = checkRowsOf(action, 'student', student);
    const logits = checkTeacher(action, teacher, part);
    return composeRowLoss(action, part, given, null, (z) => {
      const { first, both, counts, centre } = constants(() => {
        const probabilities = (name: ScoreWeights): Tensor =>
          name === 'uniform' ? uniformLike(logits, 1 / part.cols, action) : softmax(name === 'student' ? z.detach() : logits);
        const w1 = probabilities(weights[0]);
        const w2 = weights[1] === weights[0] ? w1 : probabilities(weights[1]);
        const total = add(w1, w2);
        const seen = isNotZero(action, total);
        const delta = silenced(sub(z.detach(), logits), seen);
        return { first: w1, both: total, counts: seen, centre: sum(mul(delta, w1), { axis: -1, keepDims: true }) };
      });
      // Twice around the mean: the first time takes a large common offset out, the second its rounding.
      const near = silenced(sub(sub(z, logits), centre), counts);
      const around = silenced(sub(near, sum(mul(near, first), { axis: -1, keepDims: true })), counts);
      return scale(sum(mul(square(around), both), { axis: -1 }), 0.5);
    });
  });
}

/** Options of {@link standardizedKdLoss}. */
export interface StandardizedKdOptions extends ComposedLossOptions {
  /** Divides both sides' standardised logits; a positive number or a float32 Tensor [rows]. Default 2. */
  temperature?: number | Tensor;
  /** Multiplies by T². Default true. */
  temperatureSquared?: boolean;
  /** Default 'forward_kl'. */
  divergence?: Divergence;
  /** Added to the standard deviation. Default 1e-7. */
  epsilon?: number;
}

/**
 * Logit standardisation (Sun et al., CVPR 2024, arXiv 2403.01427): {@link kdLoss} of (z − mean z)/(σ_z + ε) against the same of the
 * teacher. The student then need not match the teacher's offset and scale. Labels, where there are any, belong to a
 * {@link crossEntropy} of the logits as they are.
 *
 * @param student logits [..., cols] of finite numbers, float32, or float64 on the CPU; an infinite one makes its row NaN
 * @param teacher logits of the same shape
 * @returns a single number, or with reduction 'none' one for each row in the student's leading shape
 */
export function standardizedKdLoss(student: Tensor, teacher: Tensor, options?: StandardizedKdOptions): Tensor {
  return tidy(() => {
    const action = 'compute standardizedKdLoss';
    const given = checkOptions(action, options, [...composedNames, 'temperature', 'temperatureSquared', 'divergence', 'epsilon']);
    const { temperature = 2, temperatureSquared, divergence, epsilon = 1e-7 } = given;
    const part = checkRowsOf(action, 'student', student);
    checkTemperature(action, temperature, part.rows, part.leading, student);
    const logits = checkTeacher(action, teacher, part);
    return composeRowLoss(action, part, given, null, (z) => {
      const wanted = constants(() => standardize(logits, { epsilon }));
      const settings = { temperature, reduction: 'none' } as const;
      return kdLoss(standardize(z, { epsilon }), wanted, {
        ...settings,
        ...(temperatureSquared === undefined ? {} : { temperatureSquared }),
        ...(divergence === undefined ? {} : { divergence }),
      });
    });
  });
}
