// Gram matrices: which rows of a batch are like which.
import { tidy } from '../../autograd.js';
import { checkBoolean, checkOptions } from '../../check.js';
import { add, silenced, sub } from '../../ops/binary.js';
import { matmul } from '../../ops/matmul.js';
import { normalize } from '../../ops/normalize.js';
import { sum } from '../../ops/reduce.js';
import { square } from '../../ops/unary.js';
import type { Tensor } from '../../tensor.js';
import { checkRowsOf, composedNames, composeRowLoss, constants, type ComposedLossOptions } from '../row_loss.js';
import { inverseOrZero } from './geometry.js';
import { checkOtherWidth, countedRows } from './pairs.js';

/** Options of {@link gramLoss}. */
export interface GramLossOptions extends ComposedLossOptions {
  /** The rows are brought to length 1 first: cosines instead of products. Default false. */
  normalize?: boolean;
}

/**
 * Gram loss: the products of every row with every other, student's against teacher's. With G = HHᵀ and n the rows that count,
 *
 * row i = w_i · Σ_j (G^s_ij − G^t_ij)² / n,  and for the sum over the rows  ∂/∂H_s = 4(G^s − G^t)H_s / n.
 *
 * The widths may differ: no projector is needed. The mean over the rows is ‖G^s − G^t‖²_F / n² (similarity-preserving KD, arXiv 1907.09682,
 * equation 4, has it with its rows of G normalised; DisWOT, arXiv 2303.15678). A row of weight 0, or with a number that is not finite, is nobody's
 * partner either. Memory: rows × rows.
 *
 * @param student features [..., width], float32, or float64 on the CPU
 * @param teacher features of the same rows, of any width
 * @returns a single number, or with reduction 'none' one for each row in the student's leading shape
 * @throws RangeError where rows differ, TypeError for a teacher that requires grad
 */
export function gramLoss(student: Tensor, teacher: Tensor, options?: GramLossOptions): Tensor {
  return tidy(() => {
    const action = 'compute gramLoss';
    const { normalize: unit = false, ...given } = checkOptions(action, options, [...composedNames, 'normalize']);
    checkBoolean(action, 'normalize', unit);
    const part = checkRowsOf(action, 'student', student);
    const features = checkOtherWidth(action, teacher, part);
    const { rows } = part;
    return composeRowLoss(action, part, given, null, (z, { weights }) => {
      if (rows === 0) return sum(z, { axis: -1 });
      const { column, wanted, share, fault } = constants(() => {
        const { counts, fault: broken } = countedRows(action, z, features, weights);
        const place = counts.reshape([rows, 1]);
        const own = silenced(unit ? normalize(features) : features, place);
        return {
          column: place,
          wanted: matmul(own, own, { transposeB: true }),
          share: inverseOrZero(action, sum(counts)),
          fault: broken,
        };
      });
      const own = silenced(unit ? normalize(z) : z, column);
      const squares = square(sub(matmul(own, own, { transposeB: true }), wanted));
      return add(silenced(sum(squares, { axis: -1 }), share), fault);
    });
  });
}
