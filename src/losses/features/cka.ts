// Centred kernel alignment: one number for how alike two sets of features are, whatever their widths, scales and rotations.
import { noGrad, tidy } from '../../autograd.js';
import { checkFloating, checkRows, sameShape } from '../../check.js';
import { phrase, shapeText, valueError } from '../../errors.js';
import { sub } from '../../ops/binary.js';
import { gatherRows } from '../../ops/gather_rows.js';
import { matmul } from '../../ops/matmul.js';
import { applyReduce, mean } from '../../ops/reduce.js';
import { view, type Tensor } from '../../tensor.js';
import { checkRowsOf, constants } from '../row_loss.js';
import { featureCosine } from './distance.js';
import { checkOtherWidth } from './pairs.js';

/** Columns brought to mean 0. The first row goes first: equal rows then are exactly 0, whatever their mean would round to. */
function centred(x: Tensor): Tensor {
  const first = constants(() => gatherRows(x.detach(), [0]));
  const moved = sub(x, first);
  return sub(moved, mean(moved, { axis: 0, keepDims: true }));
}

/**
 * 1 − CKA, linear and centred (Kornblith et al. 2019, arXiv 1905.00414, equation 3): with K = H̃H̃ᵀ of features whose columns have mean 0,
 *
 * CKA = ⟨K_s, K_t⟩/(‖K_s‖_F ‖K_t‖_F) = ‖H̃_sᵀH̃_t‖²_F/(‖H̃_sᵀH̃_s‖_F ‖H̃_tᵀH̃_t‖_F).
 *
 * Computed as ½‖K_s/‖K_s‖ − K_t/‖K_t‖‖², exact also where both are nearly alike: equal features, or features that differ by a rotation and a factor, have
 * loss 0 up to rounding. Rows that are all equal are alike to nothing: loss 1, gradient 0. Memory: rows × rows.
 *
 * @param student features [..., width], float32, or float64 on the CPU
 * @param teacher features of the same rows, of any width
 * @returns a single number in [0, 1]: it is the batch's, there are no losses of rows
 * @throws RangeError where rows differ or there is none, TypeError for a teacher that requires grad
 */
export function ckaLoss(student: Tensor, teacher: Tensor): Tensor {
  return tidy(() => {
    const action = 'compute ckaLoss';
    const part = checkRowsOf(action, 'student', student);
    const features = checkOtherWidth(action, teacher, part);
    const { tensor, rows, cols } = part;
    if (rows === 0) throw valueError(action, 'there must be a row', phrase('there is none'));
    const kernel = (x: Tensor): Tensor => {
      const own = centred(x);
      return matmul(own, own, { transposeB: true }).reshape([1, rows * rows]);
    };
    return featureCosine(
      kernel(tensor.reshape([rows, cols])),
      constants(() => kernel(features)),
    );
  });
}

/**
 * CKA itself, linear and centred, as a metric in double: 1 for features that are alike up to a rotation and a factor, 0 for features that have nothing in
 * common, and for rows that are all equal. Waits for the device. Memory: the smaller of rows² and width².
 *
 * @param a features [..., width] of any floating dtype, on any device
 * @param b features of the same rows, of any width
 * @returns a number in [0, 1]
 * @throws RangeError where rows differ or there is none
 */
export function cka(a: Tensor, b: Tensor): number {
  const action = 'measure cka';
  return tidy(() =>
    noGrad(() => {
      const [left, right] = [
        ['a', a],
        ['b', b],
      ].map(([name, value]) => {
        const x = checkFloating(action, name as string, value);
        const { rows, cols, leading } = checkRows(action, name as string, x, 1);
        if (rows === 0) throw valueError(action, 'there must be a row', phrase('there is none'));
        return { rows, cols, leading, x: centred(view(x.detach().to('cpu').cast('float64'), [rows, cols])) };
      }) as [Side, Side];
      if (!sameShape(left.leading, right.leading))
        throw valueError(action, `b must have rows ${shapeText(left.leading)} like a`, phrase(`it has ${shapeText(right.leading)}`));
      const squares = (x: Tensor): number => applyReduce(action, 'sum_squares', x, 1, x.size, 1, []).item();
      if (left.rows <= Math.max(left.cols, right.cols)) {
        const [k, l] = [left, right].map(({ x }) => matmul(x, x, { transposeB: true })) as [Tensor, Tensor];
        const scale = Math.sqrt(squares(k) * squares(l));
        const flat = [1, k.size];
        return scale === 0 ? 0 : Math.min(1, matmul(view(k, flat), view(l, flat), { transposeB: true }).item() / scale);
      }
      const product = (x: Tensor, y: Tensor): number => squares(matmul(x, y, { transposeA: true }));
      const scale = Math.sqrt(product(left.x, left.x) * product(right.x, right.x));
      return scale === 0 ? 0 : Math.min(1, product(left.x, right.x) / scale);
    }),
  );
}

interface Side {
  rows: number;
  cols: number;
  leading: readonly number[];
  x: Tensor;
}
