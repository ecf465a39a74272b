// Decoupled knowledge distillation: what is said of the label, and what is said of all others, weighted apart.
import { tidy } from '../autograd.js';
import { checkBoolean, checkFinite, checkOptions } from '../check.js';
import { add, mul, sub } from '../ops/binary.js';
import { gather, scatter } from '../ops/gather.js';
import { logSumExp } from '../ops/log_sum_exp.js';
import { applyReduce } from '../ops/reduce.js';
import { checkTemperature } from '../ops/temperature.js';
import { scale } from '../ops/unary.js';
import { uniformLike, type Tensor } from '../tensor.js';
import { kdLoss } from './kd_loss.js';
import type { LabelNumbers } from './labels.js';
import {
  checkLabelled,
  checkRowsOf,
  checkTeacher,
  composeRowLoss,
  constants,
  labelledNames,
  type LabelledLossOptions,
} from './row_loss.js';

/** Options of {@link dkdLoss}. */
export interface DkdOptions extends LabelledLossOptions {
  /** Weight of the label's part. Default 1. */
  alpha?: number;
  /** Weight of the others' part. Default 8. */
  beta?: number;
  /** A positive number or a float32 Tensor [rows]. Default 4. */
  temperature?: number | Tensor;
  /** Multiplies by T². Default true. */
  temperatureSquared?: boolean;
}

/**
 * Decoupled KD (DKD, arXiv 2203.08679): with b = (p_y, 1 − p_y) and p̂ the distribution over all classes but the label,
 *
 * row = w · T² · [α · KL(b_teacher ‖ b_student) + β · KL(p̂_teacher ‖ p̂_student)].
 *
 * α = 1 and β = 1 − p_y of the teacher would be plain KD. 1 − p_y is the sum of the others' exponentials, never a difference: exact
 * where the label takes all but 1e-30.
 *
 * @param student logits [..., cols], cols ≥ 2, float32, or float64 on the CPU
 * @param teacher logits of the same shape
 * @param labels int32 Tensor, Int32Array, BigInt64Array or numbers, one for each row
 * @returns a single number, or with reduction 'none' one for each row in the student's leading shape
 * @throws RangeError for a label outside [0, cols) that is not ignoreIndex
 */
export function dkdLoss(student: Tensor, teacher: Tensor, labels: Tensor | LabelNumbers, options?: DkdOptions): Tensor {
  return tidy(() => {
    const action = 'compute dkdLoss';
    const given = checkOptions(action, options, [...labelledNames, 'alpha', 'beta', 'temperature', 'temperatureSquared']);
    const { alpha = 1, beta = 8, temperature = 4, temperatureSquared = true } = given;
    checkFinite(action, 'alpha', alpha);
    checkFinite(action, 'beta', beta);
    checkBoolean(action, 'temperatureSquared', temperatureSquared);
    const part = checkRowsOf(action, 'student', student, 2);
    const { rows, cols, leading } = part;
    const { rowTemperature } = checkTemperature(action, temperature, rows, leading, student);
    const logits = checkTeacher(action, teacher, part);
    const labelled = checkLabelled(action, labels, part, given);
    const { columns } = labelled;
    return composeRowLoss(action, part, given, labelled, (z) => {
      const withoutLabel = scatter(uniformLike(logits, -Infinity, action, [rows, 1]), columns, cols);
      const perRow = rowTemperature === null ? null : rowTemperature.cast(z.dtype).reshape([rows, 1]);
      const settings = { temperature, temperatureSquared, reduction: 'none' } as const;
      // Relative to the row's maximum, so that no common offset costs digits; it has no gradient.
      const split = (x: Tensor): { others: Tensor; pair: Tensor } => {
        const centred = sub(x, applyReduce(action, 'max', x.detach(), rows, cols, 1, [rows, 1]));
        const others = add(centred, withoutLabel);
        const rest = logSumExp(others, { temperature, keepDims: true });
        const restLogit = perRow === null ? scale(rest, temperature as number) : mul(rest, perRow);
        return { others, pair: add(scatter(gather(centred, columns), [0], 2), scatter(restLogit, [1], 2)) };
      };
      const own = split(z);
      const wanted = constants(() => split(logits));
      return add(scale(kdLoss(own.pair, wanted.pair, settings), alpha), scale(kdLoss(own.others, wanted.others, settings), beta));
    });
  });
}
