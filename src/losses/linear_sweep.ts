// Walks the rows of linearKdLoss a chunk at a time: logits, row losses, their gradient in place, and what it adds to each operand's.
import { addInto, copyLines, fill } from '../arithmetic.js';
import { noGrad, tidy } from '../autograd.js';
import { bytesPerElement, isHalf, type DType } from '../dtypes.js';
import { attempt } from '../native.js';
import { applyBinary } from '../ops/binary.js';
import { gatherRows } from '../ops/gather_rows.js';
import { columnSums, productInto } from '../ops/matmul.js';
import { applyReduce } from '../ops/reduce.js';
import { applyUnary } from '../ops/unary.js';
import { InterpolatedTarget } from '../targets/interpolate.js';
import { DenseTarget, SparseTarget } from '../targets/target.js';
import { cloned, emptyLike, handleOf, rowsView, Tensor, view } from '../tensor.js';
import { isKdTarget, overwriteWithGradient, type KdLossOptions, type KdTarget } from './kd_loss.js';
import { action, isDivisor, logitsDType, logitsStride, sumsOfBias, type Call, type Layer } from './linear_call.js';
import { planOf, type Plan } from './linear_plan.js';
import { roomOf, weightGradient, type WeightGradient } from './linear_weight.js';

/** The columns that count of a layer's logits: hidden [rows, inputs] times weight [cols, inputs]. */
interface ValidLayer extends Layer {
  inputs: number;
}

export interface Swept {
  /** [count], and a row of 0 behind where not all rows count. */
  rowLoss: Tensor;
  /** Of hidden, weight and bias; null where none was asked for. */
  gradients: (Tensor | null)[];
}

/** What a walk over the chunks makes beside the row losses. The gradient of the bias is in float32 where chunks add to it. */
interface Wanted {
  hidden: Tensor | null;
  weight: WeightGradient | null;
  bias: Tensor | null;
}

/** Views without history. */
function validLayer({ hidden, weight, bias }: Layer, { rows, cols }: Call): ValidLayer {
  const inputs = weight.shape[1]!;
  const isWhole = weight.shape[0] === cols;
  return {
    hidden: view(hidden, [rows, inputs]),
    weight: isWhole ? view(weight) : rowsView(weight, 0, cols, action),
    bias: bias === null ? null : isWhole ? view(bias) : rowsView(bias, 0, cols, action),
    inputs,
  };
}

/** The rows of a chunk: of a matrix with one row for each, and of numbers. */
interface Take {
  rows(x: Tensor): Tensor;
  numbers(x: Tensor): Tensor;
}

/** Views where the rows follow each other, else copies. The same tensor gives the same part. */
function takeOf({ kept, rows }: Call, start: number, count: number): Take {
  const taken = new Map<Tensor, Tensor>();
  const part = (x: Tensor, shape: readonly number[]): Tensor => {
    let found = taken.get(x);
    if (found === undefined) {
      const flat = view(x, shape);
      found = kept === null ? rowsView(flat, start, count, action) : gatherRows(flat, kept.subarray(start, start + count));
      taken.set(x, found);
    }
    return found;
  };
  return { rows: (x) => part(x, [rows, x.shape[x.shape.length - 1]!]), numbers: (x) => part(x, [rows]) };
}

/** Rows at the distance of the student's, which kernels read an interpolated target's own student at. */
function spaced(x: Tensor, cols: number, stride: number): Tensor {
  const [lines, strideFrom] = x.shape as [number, number];
  if (strideFrom === stride) return x;
  const out = emptyLike(x, action, [lines, stride]);
  copyLines(out, x, { lines, width: cols, strideOut: stride, strideFrom }, action);
  return out;
}

function targetOf(target: KdTarget, take: Take, { cols, stride }: Call): KdTarget {
  if (target instanceof Tensor) return take.rows(target);
  if (target instanceof DenseTarget) return new DenseTarget(target.kind, take.rows(target.values));
  if (target instanceof InterpolatedTarget)
    return new InterpolatedTarget({
      student: spaced(take.rows(target.student), cols, stride),
      teacher: take.rows(target.teacher),
      t: target.t,
    });
  const { indices, logProbs, weights, givenTail, temperature, cols: taken } = target;
  return new SparseTarget({
    indices: take.rows(indices),
    logProbs: logProbs === null ? null : take.rows(logProbs),
    weights: weights === null ? null : take.rows(weights),
    tailLogMass: givenTail === null ? null : take.numbers(givenTail),
    temperature: typeof temperature === 'number' ? temperature : take.numbers(temperature),
    cols: taken,
  });
}

/** hidden·weightᵀ + bias of a chunk's rows, into `out` [rows of the chunk, stride], of which columns there are none stay as they are. */
function logitsInto(out: Tensor, hidden: Tensor, { weight, bias, inputs }: ValidLayer): Tensor {
  const [rows, stride] = out.shape as [number, number];
  const cols = weight.shape[0]!;
  productInto(action, hidden, weight, out, { m: rows, n: cols, k: inputs, strideOut: stride, transposeB: true });
  if (bias === null) return out;
  const added = bias.dtype === out.dtype || bias.dtype === 'float32' ? bias : bias.cast('float32');
  return applyBinary(action, 'add', out, padded(added, stride), { rows, cols: stride, how: 'row' }, out);
}

/** Numbers with zeros behind them. */
function padded(x: Tensor, size: number): Tensor {
  if (x.size === size) return x;
  const out = emptyLike(x, action, [size]);
  fill(out, 0, action);
  applyUnary(action, 'copy', x, 0, rowsView(out, 0, x.size, action));
  return out;
}

/** Room for logits of so many rows, zeros where rows are longer than `cols`. */
function logitsOf(layer: Layer, rows: number, cols: number, stride: number): Tensor {
  const out = emptyLike(layer.hidden, action, [rows, stride], logitsDType(layer));
  if (stride > cols) fill(out, 0, action);
  return out;
}

function teacherLogits(call: Call, take: Take, target: Layer, rows: number): Tensor {
  const layer = validLayer(target, call);
  return logitsInto(logitsOf(target, rows, call.cols, logitsStride(target, call.cols)), take.rows(layer.hidden), layer);
}

/** A message about a row of a chunk names the row of the call. */
function renumbered(error: unknown, { kept }: Call, start: number): unknown {
  if (error instanceof Error)
    error.message = error.message.replace(/\b(row|label) (\d+)\b/g, (_, what: string, row: string) => {
      const at = start + Number(row);
      return `${what} ${kept === null ? at : (kept[at] ?? at)}`;
    });
  return error;
}

function optionsOfChunk(call: Call, take: Take, start: number, count: number): KdLossOptions {
  const { options, labels, kept, denominator, cols } = call;
  const { temperature, rowWeights, reduction = 'mean' } = options;
  const own = call.stride === cols ? { ...options } : { ...options, cols };
  if (temperature instanceof Tensor) own.temperature = take.numbers(temperature);
  if (rowWeights !== undefined) own.rowWeights = take.numbers(rowWeights);
  if (labels !== null)
    own.labels = kept === null ? labels.subarray(start, start + count) : kept.subarray(start, start + count).map((row) => labels[row]!);
  if (reduction !== 'mean') return own;
  // What no kernel divides by, a sum of weights below 0 say, divides the results; of a half type, it divides the products.
  if (isDivisor(denominator) && !isHalf(logitsDType(call.student))) own.denominator = denominator;
  else own.reduction = 'sum';
  return own;
}

/** One chunk: row losses, and what it adds to the gradients; `upstream`, one for each row of the call, multiplies the rows' own. */
function runChunk(call: Call, logits: Tensor, allRowLoss: Tensor, wanted: Wanted, start: number, upstream: Tensor | null): void {
  const { target, cols, scale } = call;
  const student = validLayer(call.student, call);
  const [rows, stride] = logits.shape as [number, number];
  const take = takeOf(call, start, rows);
  const hidden = take.rows(student.hidden);
  logitsInto(logits, hidden, student);
  const teacher = isKdTarget(target) ? targetOf(target, take, call) : teacherLogits(call, take, target, rows);
  const wantsGradient = wanted.hidden !== null || wanted.weight !== null || wanted.bias !== null;
  const rowLoss = rowsView(allRowLoss, start, rows, action);
  try {
    overwriteWithGradient(action, logits, teacher, optionsOfChunk(call, take, start, rows), { rowLoss, wantsGradient });
  } catch (error) {
    throw renumbered(error, call, start);
  }
  if (!wantsGradient || rows === 0) return;
  const { weight, inputs } = student;
  if (upstream !== null) applyBinary(action, 'mul', logits, take.numbers(upstream), { rows, cols: stride, how: 'column' }, logits);
  wanted.weight?.add(logits, hidden, start);
  if (wanted.bias !== null) {
    const into = rowsView(wanted.bias, 0, cols, action);
    if (isHalf(logits.dtype) || isHalf(into.dtype)) columnSums(action, logits, rows, cols, into, scale, !isHalf(into.dtype));
    else addInto(into, into, rowsView(applyReduce(action, 'sum', logits, rows, stride, 0, [stride]), 0, cols, action));
  }
  // Last, as it may be the memory of hidden.
  const ofRows = { m: rows, n: inputs, k: cols, strideA: stride, scale };
  if (wanted.hidden !== null) productInto(action, logits, weight, rowsView(wanted.hidden, start, rows, action), ofRows);
}

const addressOf = (x: Tensor): bigint => attempt(action, (addon) => addon.address(handleOf(x, action)));

/** How the call keeps to its scratch; `ofWeight` and `ofBias` are the gradients that are wanted, `isOver` says that hidden is overwritten. */
function planFor(
  call: Call,
  ofWeight: Tensor | null,
  ofBias: Tensor | null,
  isOver: boolean,
): { plan: Plan; skipped: number; copy: number } {
  const { student, kept, count, cols, perRow, scratch, longest } = call;
  const inputs = student.weight.shape[1]!;
  const isGathered = ofWeight !== null && isHalf(ofWeight.dtype) && ofWeight.size > 0;
  const past = isGathered ? Number(addressOf(ofWeight) % 16n) : 0;
  const skipped = past === 0 ? 0 : 16 - past;
  const copy = kept === null && !isOver ? 0 : Math.ceil((count * inputs * bytesPerElement(student.hidden.dtype)) / 16) * 16;
  const plan = planOf({
    rows: count,
    cols,
    inputs,
    perRow,
    scratch,
    longest,
    beside: ofBias === null ? 0 : sumsOfBias(student, cols),
    isGathered,
    mayKeep: ofWeight?.dtype === logitsDType(student),
    copy,
    skipped,
  });
  return { plan, skipped, copy: plan.way === 'kept' ? copy : 0 };
}

/** All walks over the chunks of a plan, one for each part of the weight's gradient; the last one makes the other gradients. */
function walk(call: Call, { rowLoss, gradients }: Swept, upstream: Tensor | null, isOver: boolean): void {
  const { student, kept, count, cols, stride, scale } = call;
  const [ofHidden = null, ofWeight = null, ofBias = null] = gradients;
  const { plan, skipped, copy } = planFor(call, ofWeight, ofBias, isOver);
  const { chunk, parts } = plan;
  const sumsOfChunks =
    ofBias !== null && isHalf(ofBias.dtype) && count > chunk ? emptyLike(ofBias, action, ofBias.shape, 'float32') : ofBias;
  if (sumsOfChunks !== null) fill(sumsOfChunks, 0, action);
  const room = roomOf(plan, student.hidden, copy);
  const { hidden } = validLayer(student, call);
  const allHidden = plan.way !== 'kept' || copy === 0 ? hidden : kept === null ? cloned(hidden, action) : gatherRows(hidden, kept);
  const logits = logitsOf(student, chunk, cols, stride);
  for (const [i, part] of parts.entries())
    tidy(() => {
      const isLast = i === parts.length - 1;
      const valid = ofWeight === null ? null : rowsView(ofWeight, 0, cols, action);
      const weight = valid === null ? null : weightGradient(valid, part, plan, room, skipped, allHidden, scale);
      const wanted = { hidden: isLast ? ofHidden : null, weight, bias: isLast ? sumsOfChunks : null };
      let start = 0;
      do {
        const rows = Math.min(chunk, count - start);
        const from = start;
        tidy(() => runChunk(call, rows === chunk ? view(logits) : rowsView(logits, 0, rows, action), rowLoss, wanted, from, upstream));
        start += rows;
      } while (start < count);
      if (count > 0) weight?.finish();
    });
  if (sumsOfChunks !== ofBias) applyUnary(action, 'copy', sumsOfChunks!, 0, ofBias!);
}

/**
 * All rows. Gradients go into the tensors of `into`, where there are some; that of hidden only where all rows count, and then it may be the
 * memory of hidden.
 */
export function sweep(call: Call, needs: readonly boolean[], upstream: Tensor | null, into: readonly (Tensor | null)[] = []): Swept {
  const { operands, student, kept, count, cols } = call;
  // Rows that do not count are gathered from one of zeros behind the others.
  const entries = kept === null ? count : count + 1;
  const made: Tensor[] = [];
  const make = (shape: readonly number[], dtype: DType): Tensor => {
    const out = emptyLike(student.hidden, action, shape, dtype);
    made.push(out);
    return out;
  };
  try {
    const gradients = operands.map((operand, i) => {
      if (!needs[i]) return null;
      const given = i === 0 && kept !== null ? null : into[i];
      const out = given ?? make(i === 0 ? [entries, student.weight.shape[1]!] : operand.shape, operand.dtype);
      // A half type's is written, not added to.
      const first = i === 0 ? entries : isHalf(out.dtype) && count > 0 ? cols : 0;
      if (i > 0 && first < out.shape[0]!) fill(rowsView(out, first, out.shape[0]! - first, action), 0, action);
      return out;
    });
    const dtype = logitsDType(student);
    const swept: Swept = { rowLoss: make([entries], isHalf(dtype) ? 'float32' : dtype), gradients };
    tidy(() =>
      noGrad(() => {
        for (const each of [swept.rowLoss, gradients[0]]) if (kept !== null && each) fill(rowsView(each, count, 1, action), 0, action);
        walk(call, swept, upstream, gradients[0] != null && addressOf(gradients[0]) === addressOf(student.hidden));
      }),
    );
    return swept;
  } catch (error) {
    for (const each of made) each.dispose();
    throw error;
  }
}
