// DIST: correlation instead of equality, within each row and within each class over the batch.
import { tidy } from '../autograd.js';
import { checkFinite, checkOptions, checkPositive } from '../check.js';
import { add, sub } from '../ops/binary.js';
import { gatherRows } from '../ops/gather_rows.js';
import { applyReduce, mean } from '../ops/reduce.js';
import { softmax } from '../ops/softmax.js';
import { standardize } from '../ops/standardize.js';
import { scale, square } from '../ops/unary.js';
import { hostCopy, type Tensor } from '../tensor.js';
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

/** Options of {@link distLoss}. */
export interface DistOptions extends ComposedLossOptions {
  /** Weight of the correlation within each row. Default 1. */
  beta?: number;
  /** Weight of the correlation within each class over the rows. Default 1. */
  gamma?: number;
  /** τ of both sides' softmax, a positive number; the loss is multiplied by τ². Default 1. */
  temperature?: number;
}

/** 1 − Pearson correlation along rows or columns, averaged over them where `along` is 'column'. What does not vary correlates with nothing. */
function pearsonDistance(action: string, q: Tensor, p: Tensor, along: 'row' | 'column'): Tensor {
  const options = { epsilon: 0, along };
  const own = standardize(q, options);
  const wanted = standardize(p, options);
  const [rows, cols] = q.shape as [number, number];
  // Unit variance on both sides: 1 − ρ = ½ mean (a − b)². A side without variance is 0 there, and its missing ½ is added.
  const missing = constants(() => {
    const axis = along === 'row' ? 1 : 0;
    const varies = (x: Tensor): Tensor =>
      isNotZero(action, applyReduce(action, 'sum_squares', x.detach(), rows, cols, axis, [axis === 1 ? rows : cols]));
    return sub(2, add(varies(own), varies(wanted)));
  });
  const difference = square(sub(own, wanted));
  return along === 'row' ? scale(add(mean(difference, { axis: -1 }), missing), 0.5) : scale(add(mean(difference), mean(missing)), 0.5);
}

/**
 * DIST (arXiv 2205.10536): with p and q the softmax of teacher and student at τ, and d = 1 − Pearson correlation,
 *
 * row = w · τ² · [β · d(p_i, q_i) + γ · mean_c d(p_·c, q_·c)],
 *
 * the second over the columns of all rows that count (weight not 0, nothing NaN in them): one number, which every row carries, so that
 * the mean of the rows is the batch's loss. d is half the mean squared difference of the standardised values, exact also where it is
 * nearly 0. A row or column that does not vary on one side has d = 1 and gradient 0. Which rows count is read back from the device.
 *
 * @param student logits [..., cols], float32, or float64 on the CPU
 * @param teacher logits of the same shape
 * @returns a single number, or with reduction 'none' one for each row in the student's leading shape
 */
export function distLoss(student: Tensor, teacher: Tensor, options?: DistOptions): Tensor {
  return tidy(() => {
    const action = 'compute distLoss';
    const given = checkOptions(action, options, [...composedNames, 'beta', 'gamma', 'temperature']);
    const { beta = 1, gamma = 1, temperature = 1 } = given;
    checkFinite(action, 'beta', beta);
    checkFinite(action, 'gamma', gamma);
    checkPositive(action, 'temperature', temperature);
    const part = checkRowsOf(action, 'student', student);
    const { rows, cols } = part;
    const logits = checkTeacher(action, teacher, part);
    return composeRowLoss(action, part, given, null, (z, { weights }) => {
      const q = softmax(z, { temperature });
      const p = constants(() => softmax(logits, { temperature }));
      const within = scale(pearsonDistance(action, q, p, 'row'), beta * temperature ** 2);
      const faults = hostCopy(add(faultOf(action, z.detach(), rows, cols), faultOf(action, logits, rows, cols)), action);
      const weight = weights === null ? null : hostCopy(weights, action);
      const counted: number[] = [];
      for (let r = 0; r < rows; r++) if (faults[r] === 0 && weight?.[r] !== 0) counted.push(r);
      if (counted.length === 0) return within;
      const all = counted.length === rows;
      const over = pearsonDistance(action, all ? q : gatherRows(q, counted), all ? p : gatherRows(p, counted), 'column');
      return add(within, scale(over, gamma * temperature ** 2));
    });
  });
}
