// Walks the rows of linearKdLoss a chunk at a time: logits, row losses, their gradient in place, and what it adds to each operand's.
import { addInto, fill } from '../arithmetic.js';
import { noGrad, tidy } from '../autograd.js';
import { isHalf, type DType } from '../dtypes.js';
import { applyBinary } from '../ops/binary.js';
import { gatherRows } from '../ops/gather_rows.js';
import { columnSums, productInto } from '../ops/matmul.js';
import { applyReduce } from '../ops/reduce.js';
import { applyUnary } from '../ops/unary.js';
import { InterpolatedTarget } from '../targets/interpolate.js';
import { DenseTarget, SparseTarget } from '../targets/target.js';
import { emptyLike, rowsView, Tensor, view } from '../tensor.js';
import { isKdTarget, overwriteWithGradient, type KdLossOptions, type KdTarget } from './kd_loss.js';
import { action, isDivisor, logitsDType, logitsStride, type Call, type Layer } from './linear_call.js';

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

/** The gradients as chunks add to them: those of half types in float32 where there is more than one chunk. */
type Sums = Swept['gradients'];

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

function targetOf(target: KdTarget, take: Take): KdTarget {
  if (target instanceof Tensor) return take.rows(target);
  if (target instanceof DenseTarget) return new DenseTarget(target.kind, take.rows(target.values));
  if (target instanceof InterpolatedTarget)
    return new InterpolatedTarget({ student: take.rows(target.student), teacher: take.rows(target.teacher), t: target.t });
  const { indices, logProbs, weights, givenTail, temperature, cols } = target;
  return new SparseTarget({
    indices: take.rows(indices),
    logProbs: logProbs === null ? null : take.rows(logProbs),
    weights: weights === null ? null : take.rows(weights),
    tailLogMass: givenTail === null ? null : take.numbers(givenTail),
    temperature: typeof temperature === 'number' ? temperature : take.numbers(temperature),
    cols,
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
function runChunk(call: Call, logits: Tensor, swept: Swept, sums: Sums, start: number, upstream: Tensor | null): void {
  const { target, cols, scale } = call;
  const student = validLayer(call.student, call);
  const [rows, stride] = logits.shape as [number, number];
  const take = takeOf(call, start, rows);
  const hidden = take.rows(student.hidden);
  logitsInto(logits, hidden, student);
  const teacher = isKdTarget(target) ? targetOf(target, take) : teacherLogits(call, take, target, rows);
  const [gradientHidden, gradientWeight, gradientBias] = sums;
  const wantsGradient = swept.gradients.some((each) => each !== null);
  const rowLoss = rowsView(swept.rowLoss, start, rows, action);
  try {
    overwriteWithGradient(action, logits, teacher, optionsOfChunk(call, take, start, rows), { rowLoss, wantsGradient });
  } catch (error) {
    throw renumbered(error, call, start);
  }
  if (!wantsGradient || rows === 0) return;
  const { weight, inputs } = student;
  if (upstream !== null) applyBinary(action, 'mul', logits, take.numbers(upstream), { rows, cols: stride, how: 'column' }, logits);
  // The padding behind the valid columns stays 0. A half type is written once, or there are float32 sums for it.
  const valid = (x: Tensor): Tensor => rowsView(x, 0, cols, action);
  const ofCols = { m: cols, n: inputs, k: rows, strideA: stride, transposeA: true, scale };
  if (gradientWeight) productInto(action, logits, hidden, valid(gradientWeight), ofCols, !isHalf(gradientWeight.dtype));
  if (gradientBias) {
    const into = valid(gradientBias);
    if (isHalf(logits.dtype) || isHalf(into.dtype)) columnSums(action, logits, rows, cols, into, scale, !isHalf(into.dtype));
    else addInto(into, into, rowsView(applyReduce(action, 'sum', logits, rows, stride, 0, [stride]), 0, cols, action));
  }
  // Last, as it may be the memory of hidden.
  const ofRows = { m: rows, n: inputs, k: cols, strideA: stride, scale };
  if (gradientHidden) productInto(action, logits, weight, rowsView(gradientHidden, start, rows, action), ofRows);
}

/** All chunks in order. Gradients go into the tensors of `into`, where there are some; that of hidden only where all rows count. */
export function sweep(call: Call, needs: readonly boolean[], upstream: Tensor | null, into: readonly (Tensor | null)[] = []): Swept {
  const { operands, student, kept, count, chunk, cols } = call;
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
      if (i > 0) fill(out, 0, action);
      return out;
    });
    const dtype = logitsDType(student);
    const swept: Swept = { rowLoss: make([entries], isHalf(dtype) ? 'float32' : dtype), gradients };
    tidy(() =>
      noGrad(() => {
        for (const each of [swept.rowLoss, gradients[0]]) if (kept !== null && each) fill(rowsView(each, count, 1, action), 0, action);
        const sums = gradients.map((each, i) => {
          if (each === null || i === 0 || !isHalf(each.dtype) || count <= chunk) return each;
          const sum = emptyLike(each, action, each.shape, 'float32');
          fill(sum, 0, action);
          return sum;
        });
        const logits = logitsOf(student, chunk, cols, call.stride);
        let start = 0;
        do {
          const rows = Math.min(chunk, count - start);
          const from = start;
          tidy(() => runChunk(call, rows === chunk ? view(logits) : rowsView(logits, 0, rows, action), swept, sums, from, upstream));
          start += rows;
        } while (start < count);
        gradients.forEach((each, i) => {
          if (each !== null && sums[i] !== each) applyUnary(action, 'copy', sums[i]!, 0, each);
        });
      }),
    );
    return swept;
  } catch (error) {
    for (const each of made) each.dispose();
    throw error;
  }
}
