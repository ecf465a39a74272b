// Relational distillation: distances and angles between the rows of a batch.
import { tidy } from '../../autograd.js';
import { checkFinite, checkOptions } from '../../check.js';
import { add, div, mul, silenced, sub } from '../../ops/binary.js';
import { normalize } from '../../ops/normalize.js';
import { sum } from '../../ops/reduce.js';
import { addScalar, scale } from '../../ops/unary.js';
import { fromArray, ordinalOf, type Tensor } from '../../tensor.js';
import { checkRowsOf, composedNames, composeRowLoss, constants, isNotZero, type ComposedLossOptions } from '../row_loss.js';
import { huber } from './distance.js';
import { differences, inverseOrZero, lengths, selfProducts } from './geometry.js';
import { checkOtherWidth, countedRows } from './pairs.js';

/** Options of {@link relationKd}. */
export interface RelationKdOptions extends ComposedLossOptions {
  /** λ_D of the distances. Default 1. */
  distanceWeight?: number;
  /** λ_A of the angles; 0 leaves them out, with their memory. Default 2. */
  angleWeight?: number;
}

/** 1 off the diagonal, 0 on it. */
function offDiagonal(action: string, n: number, like: Tensor): Tensor {
  const values = new Float32Array(n * n).fill(1);
  for (let i = 0; i < n; i++) values[i * n + i] = 0;
  return fromArray(values, 'float32', [n, n], ordinalOf(like, action), action).cast(like.dtype);
}

/** Which pairs are compared, and what the sums over them are divided by. */
interface Pairs {
  /** [n, n]: 1 for pairs of different rows that both count. */
  mask: Tensor;
  /** 1 off the diagonal. */
  distinct: Tensor;
  /** One over the pairs of all rows, over the partners of one row, over the pairs of partners; 0 where there is none. */
  perBatch: Tensor;
  perRow: Tensor;
  perVertex: Tensor;
}

/** Distances over their mean, masked. */
function distances(action: string, steps: Tensor, { mask, perBatch }: Pairs): Tensor {
  const all = silenced(lengths(steps), mask);
  const mean = mul(sum(all), perBatch);
  // Rows that are all one have no mean distance: theirs stay 0.
  const isZero = constants(() => addScalar(scale(isNotZero(action, mean), -1), 1));
  return div(all, add(mean, isZero));
}

/** Cosines at each vertex: [n, n, n], entry (j, i, k) of the angle between j→i and j→k. */
function angles(steps: Tensor, { mask }: Pairs): Tensor {
  const n = mask.shape[0]!;
  return selfProducts(silenced(normalize(steps), mask.reshape([n, n, 1])), 1);
}

/**
 * Relational knowledge distillation (Park et al. 2019, arXiv 1904.05068, equations 5 to 10): with ψ_D(i, j) = ‖h_i − h_j‖/μ, μ the mean over all pairs of
 * different rows, ψ_A(i, j, k) = cos ∠ h_i h_j h_k, and ℓ Huber's loss with δ = 1,
 *
 * row j = w_j · [λ_D · mean_i ℓ(ψ_D^s(j, i) − ψ_D^t(j, i)) + λ_A · mean_{i ≠ k} ℓ(ψ_A^s(i, j, k) − ψ_A^t(i, j, k))],
 *
 * so that the mean over the rows is the mean over all pairs, and over all triples, of different rows (the paper has sums, its code means that count the
 * pairs of a row with itself, too). μ carries a gradient. The widths may differ. Two rows in one place have cosines 0 and no gradient between them; a row
 * of weight 0, or with a number that is not finite, is nobody's partner. Memory: rows² × width, and rows³ for the angles.
 *
 * @param student features [..., width], float32, or float64 on the CPU
 * @param teacher features of the same rows, of any width
 * @returns a single number, or with reduction 'none' one for each row in the student's leading shape
 * @throws RangeError where rows differ, TypeError for a teacher that requires grad
 */
export function relationKd(student: Tensor, teacher: Tensor, options?: RelationKdOptions): Tensor {
  return tidy(() => {
    const action = 'compute relationKd';
    const given = checkOptions(action, options, [...composedNames, 'distanceWeight', 'angleWeight']);
    const { distanceWeight = 1, angleWeight = 2 } = given;
    checkFinite(action, 'distanceWeight', distanceWeight);
    checkFinite(action, 'angleWeight', angleWeight);
    const part = checkRowsOf(action, 'student', student);
    const features = checkOtherWidth(action, teacher, part);
    const { rows } = part;
    return composeRowLoss(action, part, given, null, (z, { weights }) => {
      if (rows === 0) return sum(z, { axis: -1 });
      const { pairs, column, fault, wantedDistances, wantedAngles } = constants(() => {
        const { counts, fault: broken } = countedRows(action, z, features, weights);
        const distinct = offDiagonal(action, rows, z);
        const place = counts.reshape([rows, 1]);
        const mask = silenced(silenced(distinct, counts), place);
        const others = addScalar(sum(counts), -1);
        const perRow = inverseOrZero(action, others);
        const found: Pairs = {
          mask,
          distinct,
          perRow,
          perBatch: inverseOrZero(action, sum(mask)),
          perVertex: mul(perRow, inverseOrZero(action, addScalar(others, -1))),
        };
        const steps = differences(silenced(features, place));
        return {
          pairs: found,
          column: place,
          fault: broken,
          wantedDistances: distanceWeight === 0 ? null : distances(action, steps, found),
          wantedAngles: angleWeight === 0 ? null : angles(steps, found),
        };
      });
      const steps = differences(silenced(z, column));
      let total = fault;
      if (wantedDistances !== null) {
        const each = huber(sub(distances(action, steps, pairs), wantedDistances), 1);
        total = add(scale(silenced(sum(each, { axis: -1 }), pairs.perRow), distanceWeight), total);
      }
      if (wantedAngles !== null) {
        const each = silenced(huber(sub(angles(steps, pairs), wantedAngles), 1), pairs.distinct);
        const summed = sum(each.reshape([rows, rows * rows]), { axis: -1 });
        total = add(scale(silenced(summed, pairs.perVertex), angleWeight), total);
      }
      return total;
    });
  });
}
