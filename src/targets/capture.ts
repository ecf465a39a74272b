// The k best entries of a teacher's rows with exact log-probabilities and the log-mass of all the others, in one pass.
import { checkConstant, checkFloat32OrHalf, checkOptions, checkRows } from '../check.js';
import { kernel } from '../native.js';
import { checkTemperature } from '../ops/temperature.js';
import { checkK } from '../ops/top_k.js';
import { empty, emptyLike, handleOf, handleOrNull, ordinalOf, view, type Tensor } from '../tensor.js';
import { SparseTarget } from './target.js';

/** Options of {@link captureTopK}. */
export interface CaptureOptions {
  /** A positive number, or a float32 Tensor with one for each row. Default 1. */
  temperature?: number | Tensor;
}

/**
 * Captures the k most probable entries of each row: log pᵢ = xᵢ/T − ln Σ e^{x/T}, exact, and the log-mass of the entries
 * left out, added up from those entries and never as 1 − Σp.
 *
 * @param teacherLogits float32, float16 or bfloat16 [..., cols]; log-probabilities and tail are float32
 * @param k at most cols; ties go to the lowest index
 * @throws RangeError for k > cols or a temperature that is not positive and finite; TypeError where the logits require grad
 *
 * @example
 * const target = captureTopK(teacherLogits, 16, { temperature: 2 });
 * kdLoss(student, target, { residual: 'tail_bucket' });
 */
export function captureTopK(teacherLogits: Tensor, k: number, options?: CaptureOptions): SparseTarget {
  const action = 'capture a target';
  const logits = checkFloat32OrHalf(action, 'teacherLogits', teacherLogits);
  checkConstant(action, 'teacherLogits', logits);
  const { temperature: given = 1 } = checkOptions(action, options, ['temperature']);
  const { rows, cols, leading } = checkRows(action, 'teacherLogits', logits, 1);
  checkK(action, k, cols);
  const { temperature, rowTemperature } = checkTemperature(action, given, rows, leading, logits);
  const indices = empty([rows, k], 'int32', ordinalOf(logits, action), action);
  const logProbs = emptyLike(logits, action, [rows, k], 'float32');
  const tailLogMass = emptyLike(logits, action, [rows], 'float32');
  kernel('capture_top_k', action)(
    handleOf(logits, action),
    handleOrNull(rowTemperature, action),
    handleOf(indices, action),
    handleOf(logProbs, action),
    handleOf(tailLogMass, action),
    null,
    rows,
    cols,
    k,
    temperature,
  );
  return new SparseTarget({
    indices,
    logProbs,
    weights: null,
    tailLogMass,
    temperature: rowTemperature === null ? temperature : view(rowTemperature, [rows]),
    cols,
  });
}
