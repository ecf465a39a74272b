// List-wise losses: the likelihood of the teacher's order under the student, step by step (Plackett–Luce).
import { tidy } from '../autograd.js';
import { checkOptions } from '../check.js';
import { add, isLess, silenced } from '../ops/binary.js';
import { cumulativeLogSumExp } from '../ops/cumulative.js';
import { gather, gatherDistinct, scatter } from '../ops/gather.js';
import { sum } from '../ops/reduce.js';
import { softmax } from '../ops/softmax.js';
import { argsort } from '../ops/sort.js';
import { uniformLike, type Tensor } from '../tensor.js';
import type { LabelNumbers } from './labels.js';
import {
  checkLabelled,
  checkRowsOf,
  checkTeacher,
  composedNames,
  composeRowLoss,
  constants,
  faultOf,
  labelledNames,
  type ComposedLossOptions,
  type LabelledLossOptions,
} from './row_loss.js';

/** Options of {@link plackettLuceLoss}. */
export interface PlackettLuceOptions extends LabelledLossOptions {
  /** int32 Tensor, Int32Array, BigInt64Array or numbers, one for each row: the class that comes first. Left out: the teacher's order alone. */
  labels?: Tensor | LabelNumbers;
  /** τ of α = softmax(u/τ), a positive number or a float32 Tensor [rows]; the student's logits are not divided by it. Default 1. */
  temperature?: number | Tensor;
}

/** The steps ln Σ_{j ≥ k} e^{z_j} − z_k of the student's logits in a given order: never negative, and no difference of large numbers. */
function steps(student: Tensor, order: Tensor): Tensor {
  return cumulativeLogSumExp(gatherDistinct(student, order), { reverse: true, relative: true });
}

/**
 * Plackett–Luce distillation (PLD, arXiv 2506.12542): with π = (y, then the other classes by falling teacher logit), and
 * α_k = softmax(u/τ)_{π_k},
 *
 * row = w · Σ_k α_k · (ln Σ_{j ≥ k} e^{z_{π_j}} − z_{π_k}),  ∂/∂z_{π_i} = e^{z_{π_i}} Σ_{k ≤ i} α_k / Σ_{j ≥ k} e^{z_{π_j}} − α_i.
 *
 * The temperature acts on α alone. α = (1, 0, …) is cross-entropy, equal α the {@link listMleLoss} divided by the number of classes.
 * Equal teacher logits: the lower column first, on every device. O(V log V) in time; seven arrays of
 * rows × cols at the peak, the gradient included.
 *
 * @param student logits [..., cols], float32, or float64 on the CPU
 * @param teacher logits of the same shape
 * @returns a single number, or with reduction 'none' one for each row in the student's leading shape
 * @throws TypeError for a teacher that requires grad; RangeError for shapes, and a label outside [0, cols) that is not ignoreIndex
 *
 * @example
 * plackettLuceLoss(student, teacher, { labels: [3, 0], temperature: 2 }).backward();
 */
export function plackettLuceLoss(student: Tensor, teacher: Tensor, options?: PlackettLuceOptions): Tensor {
  return tidy(() => {
    const action = 'compute plackettLuceLoss';
    const given = checkOptions(action, options, [...labelledNames, 'labels', 'temperature']);
    const rows = checkRowsOf(action, 'student', student);
    const logits = checkTeacher(action, teacher, rows);
    const labelled = given.labels === undefined ? null : checkLabelled(action, given.labels, rows, given);
    return composeRowLoss(action, rows, given, labelled, (z) => {
      const { order, alpha } = constants(() => {
        // +∞ at the label puts it first (NaN, which −∞ + ∞ is, comes before it, and is the label too).
        const top = uniformLike(logits, Infinity, action, [rows.rows, 1]);
        const first = argsort(labelled === null ? logits : add(logits, scatter(top, labelled.columns, rows.cols)));
        const { temperature = 1 } = given;
        return { order: first, alpha: gather(softmax(logits, { temperature }), first) };
      });
      return add(sum(silenced(steps(z, order), alpha), { axis: -1 }), faultOf(action, z.detach(), rows.rows, rows.cols));
    });
  });
}

/**
 * ListMLE by the suffix (Xia et al. 2008): the negative log-likelihood of the order of the teacher's scores,
 *
 * row = w · Σ_k (ln Σ_{j ≥ k} e^{z_{π_j}} − z_{π_k}),  π by falling score, equal ones by column.
 *
 * An entry the teacher scores −∞ is not in the list: it has no step of its own.
 *
 * @param student scores [..., cols], float32, or float64 on the CPU
 * @param teacher scores of the same shape; only their order counts
 * @returns a single number, or with reduction 'none' one for each row in the student's leading shape
 */
export function listMleLoss(student: Tensor, teacher: Tensor, options?: ComposedLossOptions): Tensor {
  return tidy(() => {
    const action = 'compute listMleLoss';
    const given = checkOptions(action, options, composedNames);
    const rows = checkRowsOf(action, 'student', student);
    const scores = checkTeacher(action, teacher, rows);
    return composeRowLoss(action, rows, given, null, (z) => {
      const { order, listed } = constants(() => {
        const first = argsort(scores);
        return { order: first, listed: isLess(uniformLike(scores, -Infinity, action), gather(scores, first)) };
      });
      const faults = add(faultOf(action, scores, rows.rows, rows.cols), faultOf(action, z.detach(), rows.rows, rows.cols));
      return add(sum(silenced(steps(z, order), listed), { axis: -1 }), faults);
    });
  });
}
