// Contrastive distillation of features: each row's own teacher against everyone else's.
import { tidy } from '../autograd.js';
import { checkOptions, checkPositive } from '../check.js';
import { add, silenced } from '../ops/binary.js';
import { matmul } from '../ops/matmul.js';
import { normalize } from '../ops/normalize.js';
import { sum } from '../ops/reduce.js';
import { log, scale } from '../ops/unary.js';
import type { Tensor } from '../tensor.js';
import { countedRows } from './features/pairs.js';
import { crossEntropy } from './kd_loss.js';
import { checkRowsOf, checkTeacher, composedNames, composeRowLoss, constants, type ComposedLossOptions } from './row_loss.js';

/** Options of {@link infoNceLoss}. */
export interface InfoNceOptions extends ComposedLossOptions {
  /** τ of the similarities, a positive number. Default 0.07. */
  temperature?: number;
}

/**
 * InfoNCE (arXiv 1807.03748) between student and teacher features: with s_ij the cosine of student row i and teacher row j,
 *
 * row i = w_i · (ln Σ_j e^{s_ij/τ} − s_ii/τ),  ∂/∂s_ij = (softmax_j(s_i·/τ) − 1[i = j])/τ.
 *
 * A row of weight 0, or with a number that is not finite, is nobody's negative either. The cosine with a zero vector is 0, its gradient
 * too. Memory: rows × rows.
 *
 * @param student features [..., dim], float32, or float64 on the CPU; project first where the teacher's are wider
 * @param teacher features of the same shape
 * @returns a single number, or with reduction 'none' one for each row in the student's leading shape
 */
export function infoNceLoss(student: Tensor, teacher: Tensor, options?: InfoNceOptions): Tensor {
  return tidy(() => {
    const action = 'compute infoNceLoss';
    const given = checkOptions(action, options, [...composedNames, 'temperature']);
    const { temperature = 0.07 } = given;
    checkPositive(action, 'temperature', temperature);
    const part = checkRowsOf(action, 'student', student);
    const features = checkTeacher(action, teacher, part);
    const { rows } = part;
    return composeRowLoss(action, part, given, null, (z, { weights }) => {
      if (rows === 0) return sum(z, { axis: -1 });
      const { fault, others, absent } = constants(() => {
        const { counts, fault: broken } = countedRows(action, z, features, weights);
        return { fault: broken, others: silenced(normalize(features), counts.reshape([rows, 1])), absent: log(counts) };
      });
      // −∞ at the columns of rows that are nobody's negative.
      const similarity = add(scale(matmul(normalize(z), others, { transposeB: true }), 1 / temperature), absent);
      const own = Int32Array.from({ length: rows }, (_, r) => r);
      return add(crossEntropy(similarity, own, { reduction: 'none' }), fault);
    });
  });
}
