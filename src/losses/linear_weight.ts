// Gathers the weight's gradient of linearKdLoss over the chunks of a walk, in one of the ways of a plan.
import { copyLines, fill } from '../arithmetic.js';
import { bytesPerElement, isHalf } from '../dtypes.js';
import { productInto } from '../ops/matmul.js';
import { applyUnary } from '../ops/unary.js';
import { emptyLike, memoryView, rowsView, view, type Tensor } from '../tensor.js';
import { action } from './linear_call.js';
import type { Part, Plan } from './linear_plan.js';

/** What a walk over all chunks adds to; made inside the walk's tidy(). */
export interface WeightGradient {
  /** The gradient over a chunk's logits [rows, stride] and its hidden states; `start` counts the rows before it. */
  add(logits: Tensor, hidden: Tensor, start: number): void;
  finish(): void;
}

/** Columns from `first` on of a chunk's logits. */
function columnsFrom(logits: Tensor, first: number): Tensor {
  return first === 0 ? logits : rowsView(view(logits, [logits.size]), first, logits.size - first, action);
}

/** gᵀ·hidden for columns [from, from + rows of out), into `out` or added to it. */
function addProduct(out: Tensor, logits: Tensor, hidden: Tensor, from: number, scale: number, accumulate: boolean): void {
  const [m, n] = out.shape as [number, number];
  const [k, strideA] = logits.shape as [number, number];
  productInto(action, columnsFrom(logits, from), hidden, out, { m, n, k, strideA, transposeA: true, scale }, accumulate);
}

function intoItself(out: Tensor, scale: number): WeightGradient {
  // A half type is written once: there is one chunk.
  return { add: (logits, hidden) => addProduct(out, logits, hidden, 0, scale, !isHalf(out.dtype)), finish: () => undefined };
}

function intoSums(out: Tensor, { from, to, inRoom }: Part, room: Tensor, skipped: number, scale: number): WeightGradient {
  const inputs = out.shape[1]!;
  const pieces = [{ from, sums: memoryView(room, 'float32', 0, [inRoom, inputs], action) }];
  if (from + inRoom < to)
    pieces.push({ from: from + inRoom, sums: memoryView(out, 'float32', skipped, [to - from - inRoom, inputs], action) });
  for (const { sums } of pieces) fill(sums, 0, action);
  return {
    add: (logits, hidden) => {
      for (const each of pieces) addProduct(each.sums, logits, hidden, each.from, scale, true);
    },
    finish: () => {
      for (const { from: first, sums } of pieces) applyUnary(action, 'copy', sums, 0, rowsView(out, first, sums.shape[0]!, action));
    },
  };
}

function keptWhole(
  out: Tensor,
  { from, to, inRoom }: Part,
  { width }: Plan,
  room: Tensor,
  skipped: number,
  allHidden: Tensor,
  scale: number,
): WeightGradient {
  const [rows, inputs] = allHidden.shape as [number, number];
  const bytes = rows * width * bytesPerElement(out.dtype);
  const blocks = Array.from({ length: Math.ceil((to - from) / width) }, (_, b) => {
    const first = from + b * width;
    const kept = b < inRoom ? memoryView(room, out.dtype, b * bytes, [rows, width], action) : null;
    return {
      first,
      cols: Math.min(width, to - first),
      kept: kept ?? memoryView(out, out.dtype, skipped + (b - inRoom) * bytes, [rows, width], action),
    };
  });
  return {
    add: (logits, _, start) => {
      const [lines, strideFrom] = logits.shape as [number, number];
      for (const { first, cols, kept } of blocks)
        copyLines(
          rowsView(kept, start, lines, action),
          columnsFrom(logits, first),
          { lines, width: cols, strideOut: width, strideFrom },
          action,
        );
    },
    finish: () => {
      // The last first: each product goes where only blocks lie that were multiplied out.
      for (const { first, cols, kept } of blocks.reverse())
        productInto(action, kept, allHidden, rowsView(out, first, cols, action), {
          m: cols,
          n: inputs,
          k: rows,
          strideA: width,
          transposeA: true,
          scale,
        });
    },
  };
}

/** `out` [cols, inputs], the rows of the weight's gradient that count; `allHidden` for 'kept' alone. */
export function weightGradient(
  out: Tensor,
  part: Part,
  plan: Plan,
  room: Tensor | null,
  skipped: number,
  allHidden: Tensor | null,
  scale: number,
): WeightGradient {
  if (plan.way === 'sums') return intoSums(out, part, room!, skipped, scale);
  if (plan.way === 'kept') return keptWhole(out, part, plan, room!, skipped, allHidden!, scale);
  return intoItself(out, scale);
}

/** Memory for a plan. */
export function roomOf(plan: Plan, like: Tensor, copy: number): Tensor | null {
  return plan.way === 'direct' ? null : emptyLike(like, action, [(plan.room - copy) / bytesPerElement('float32')], 'float32');
}
