// Losses on scores of candidates: margins between them, and graded relevance.
import { tidy } from '../autograd.js';
import { checkOptions, checkWhole } from '../check.js';
import { phrase, valueError } from '../errors.js';
import { add, silenced, sub } from '../ops/binary.js';
import { gather } from '../ops/gather.js';
import { mean, sum } from '../ops/reduce.js';
import { neg, scale, softplus, square } from '../ops/unary.js';
import { stateOf, type Tensor } from '../tensor.js';
import { checkRowsOf, checkTeacher, composedNames, composeRowLoss, type ComposedLossOptions } from './row_loss.js';

/** Options of {@link marginMseLoss}. */
export interface MarginMseOptions extends ComposedLossOptions {
  /** The column of the positive candidate; all others are negatives. Default 0. */
  positive?: number;
}

/**
 * Margin-MSE (arXiv 2010.02666): the student's margins between the positive candidate and each negative one, against the teacher's:
 *
 * row = w · mean_j [(s₊ − s_j) − (t₊ − t_j)]².
 *
 * @param student scores [..., candidates] with at least 2, float32, or float64 on the CPU
 * @param teacher scores of the same shape
 * @returns a single number, or with reduction 'none' one for each row in the student's leading shape
 *
 * @example
 * marginMseLoss(tensor([[5, 2]]), tensor([[4, 2]])).item(); // (3 − 2)² = 1
 */
export function marginMseLoss(student: Tensor, teacher: Tensor, options?: MarginMseOptions): Tensor {
  return tidy(() => {
    const action = 'compute marginMseLoss';
    const given = checkOptions(action, options, [...composedNames, 'positive']);
    const part = checkRowsOf(action, 'student', student, 2);
    const { positive = 0 } = given;
    checkWhole(action, 'positive', positive, 0, part.cols - 1);
    const scores = checkTeacher(action, teacher, part);
    return composeRowLoss(action, part, given, null, (s) => {
      const margins = (x: Tensor): Tensor => sub(x, gather(x, [positive]));
      return scale(sum(square(sub(margins(s), margins(scores))), { axis: -1 }), 1 / (part.cols - 1));
    });
  });
}

/**
 * Binary cross-entropy of graded relevance (BiXSE): row = w · mean_j [−p_j ln σ(s_j) − (1 − p_j) ln(1 − σ(s_j))],
 * ∂/∂s_j = (σ(s_j) − p_j)/n. Both logarithms come from softplus: exact for every score.
 *
 * @param student scores [..., n] as logits, float32, or float64 on the CPU
 * @param grades of the same shape, in [0, 1] (checked on the CPU)
 * @returns a single number, or with reduction 'none' one for each row in the student's leading shape
 * @throws RangeError for a grade outside [0, 1]
 */
export function gradedBceLoss(student: Tensor, grades: Tensor, options?: ComposedLossOptions): Tensor {
  return tidy(() => {
    const action = 'compute gradedBceLoss';
    const given = checkOptions(action, options, composedNames);
    const part = checkRowsOf(action, 'student', student);
    const wanted = checkTeacher(action, grades, part, 'grades');
    const { array } = stateOf(wanted).storage!;
    const wrong = array === null ? -1 : array.findIndex((grade: number) => grade < 0 || grade > 1);
    if (wrong >= 0) throw valueError(action, 'grades must be in [0, 1]', phrase(`grade ${wrong} is ${array![wrong]}`));
    return composeRowLoss(action, part, given, null, (s) =>
      mean(add(silenced(softplus(neg(s)), wanted), silenced(softplus(s), sub(1, wanted))), { axis: -1 }),
    );
  });
}
