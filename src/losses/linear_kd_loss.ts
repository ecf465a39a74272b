// The distillation loss from hidden states: logits exist for a chunk of rows at a time and become their gradient in place.
import { copyInto } from '../arithmetic.js';
import { defineOp, wantsGradient, type Computed } from '../autograd.js';
import { gatherRows } from '../ops/gather_rows.js';
import { applyReduce } from '../ops/reduce.js';
import { applyUnary } from '../ops/unary.js';
import { InterpolatedTarget } from '../targets/interpolate.js';
import { DenseTarget, SparseTarget } from '../targets/target.js';
import { Tensor, view } from '../tensor.js';
import { timesUpstream, type KdTarget } from './kd_loss.js';
import { action, checkCall, isDivisor, type Call, type LinearKdLossOptions, type LinearTeacher } from './linear_call.js';
import { sweep, type Swept } from './linear_sweep.js';

/** [count + 1, ...] to all rows: each that counts to its place, the others to the row of zeros. Takes `x` over. */
function expanded(x: Tensor, { kept, count, rows }: Call, shape: readonly number[]): Tensor {
  let whole = x;
  if (kept !== null) {
    const places = new Int32Array(rows).fill(count);
    kept.forEach((row, at) => (places[row] = at));
    whole = gatherRows(x, places);
    x.dispose();
  }
  const out = view(whole, shape);
  whole.dispose();
  return out;
}

/** The sum over the denominator; a divisor the kernels were not given divides the gradients, too. */
function reduced(call: Call, { rowLoss, gradients }: Swept): Tensor {
  const { denominator, count, rows, kept } = call;
  const entries = kept === null ? rows : count + 1;
  const total = applyReduce(action, 'sum', rowLoss, 1, entries, 1, []);
  rowLoss.dispose();
  if (denominator === 1 || denominator === 0) return total;
  if (!isDivisor(denominator)) for (const each of gradients) if (each !== null) applyUnary(action, 'scale', each, 1 / denominator, each);
  return applyUnary(action, 'scale', total, 1 / denominator, total);
}

/** Tensors that a second sweep reads. */
function readBy({ target, options }: Call): Tensor[] {
  const all: unknown[] = [options.temperature, options.rowWeights];
  if (target instanceof SparseTarget) all.push(target.indices, target.logProbs, target.weights, target.givenTail, target.temperature);
  else if (target instanceof DenseTarget) all.push(target.values);
  else if (target instanceof InterpolatedTarget) all.push(target.student, target.teacher);
  else if (target instanceof Tensor) all.push(target);
  else all.push(target.hidden, target.weight, target.bias);
  return all.filter((each): each is Tensor => each instanceof Tensor);
}

function runLinearKdLoss(
  hidden: Tensor,
  weight: Tensor,
  target: KdTarget | LinearTeacher,
  given: LinearKdLossOptions | undefined,
): Computed {
  const call = checkCall(hidden, weight, target, given);
  const { operands, leading } = call;
  const isWhole = (call.options.reduction ?? 'mean') !== 'none';
  const wanted = operands.map((operand) => wantsGradient(operand));
  const gradientsOf = (swept: Swept): (Tensor | null)[] => {
    const [first, ...others] = swept.gradients;
    return [first ? expanded(first, call, operands[0]!.shape) : null, ...others];
  };
  if (isWhole) {
    const swept = sweep(call, wanted, null);
    const out = reduced(call, swept);
    const gradients = gradientsOf(swept);
    return {
      out,
      inputs: operands,
      saved: gradients.filter((each) => each !== null),
      backward: (upstream, { retain, needs }) =>
        gradients.map((each, i) => (each !== null && needs[i] ? timesUpstream(action, each, upstream, retain) : null)),
    };
  }
  const { rowLoss } = sweep(
    call,
    operands.map(() => false),
    null,
  );
  return {
    out: expanded(rowLoss, call, leading),
    inputs: operands,
    saved: readBy(call),
    // What a row's gradient is worth is known only now, so the logits are computed once more.
    backward: (upstream, { needs }) => {
      const swept = sweep(call, needs, upstream);
      swept.rowLoss.dispose();
      return gradientsOf(swept);
    },
  };
}

/**
 * {@link linearKdLoss} outside the graph, its gradients written into tensors that are there, in the order hidden, weight, bias; null where none is
 * asked for. With reduction 'none' they are those of the sum of the rows. That of hidden may be the memory of hidden.
 */
export function linearKdLossInto(
  hidden: Tensor,
  weight: Tensor,
  target: KdTarget | LinearTeacher,
  options: LinearKdLossOptions,
  into: readonly (Tensor | null)[],
): Tensor {
  const call = checkCall(hidden, weight, target, options);
  const wanted = call.operands.map((_, i) => into[i] !== null);
  const swept = sweep(call, wanted, null, into);
  const loss = (options.reduction ?? 'mean') === 'none' ? expanded(swept.rowLoss, call, call.leading) : reduced(call, swept);
  const [gradient] = swept.gradients;
  if (gradient && gradient !== into[0]) copyInto(into[0]!, expanded(gradient, call, hidden.shape), action);
  return loss;
}

/**
 * kdLoss(hidden·weightᵀ + bias, target) without logits that are whole in memory, and the gradients for hidden, weight and bias.
 *
 * Chunks of rows one after another: logits, their row losses, their gradient g over them, then ∂hidden = g·weight, ∂weight += gᵀ·hidden and
 * ∂bias += Σ g. Rows that are ignored or of weight 0 take part in no product. The gradients are made with the loss; an upstream gradient other than 1 scales
 * them once. With reduction 'none' the forward makes the row losses alone, and backward() computes the logits once more.
 *
 * What a call makes beside its results stays below `scratchBytes`. That is a chunk's rows, and where one chunk does not hold all of them, for a weight of a half type:
 * float32 sums of its gradient where they fit; else the gradient over the logits of all rows, in blocks of columns that wait in the gradient's own memory
 * until one product makes it (4,096 rows of 128,256 columns and 4,096 inputs: nothing is computed twice); else either of the two for a part of the columns after the other,
 * each part but the first with one more product of the logits.
 * The idea: Cut Cross-Entropy (Wijmans et al. 2024, arXiv 2411.09009) and Liger-Kernel (Hsu et al. 2024, arXiv 2410.10989).
 *
 * hidden, weight and bias may be float32, float16 or bfloat16, each its own. Of one half type, the logits of a chunk are of it, too, rounded once from
 * float32 sums, their gradient before it is divided by the denominator; otherwise they are float32. Gradients are summed in float32 over all chunks and rounded once
 * to the operand's dtype. On CUDA a product of two operands of one half type is taken on tensor cores; float32 stays float32, never TF32.
 *
 * @param hidden [..., inputs], float32, float16, bfloat16, or float64 on the CPU, then all of them
 * @param weight [cols, inputs]
 * @param target what {@link kdLoss} takes, its rows those of hidden, or the teacher's own `{ hidden, weight, bias }`
 * @returns a single number, or with reduction 'none' one for each row in the leading shape of hidden; float32, or float64 for float64
 * @throws TypeError for arguments of the wrong kind and a teacher that requires grad; RangeError for values, shapes, and where scratchBytes does not hold one row;
 *   LimbeckError `wrong_target` for a target of other columns
 *
 * @example
 * linearKdLoss(hidden, head.weight, captured, { residual: 'tail_bucket', bias: head.bias }).backward();
 */
export const linearKdLoss = defineOp({
  name: 'linearKdLoss',
  run: (hidden: Tensor, weight: Tensor, target: KdTarget | LinearTeacher, options?: LinearKdLossOptions) =>
    runLinearKdLoss(hidden, weight, target, options),
});
