// The distillation loss from hidden states: logits exist for a chunk of rows at a time and become their gradient in place.
import { addInto, fill } from '../arithmetic.js';
import { defineOp, noGrad, tidy, wantsGradient, type Computed } from '../autograd.js';
import {
  checkComputed,
  checkConstant,
  checkFloating,
  checkLive,
  checkOptions,
  checkRows,
  checkSameDevice,
  checkSameDType,
  checkShapeIs,
  checkWhole,
  sameShape,
} from '../check.js';
import { bytesPerElement } from '../dtypes.js';
import { kindError, phrase, shapeText, valueError } from '../errors.js';
import { applyBinary } from '../ops/binary.js';
import { gatherRows } from '../ops/gather_rows.js';
import { checkMatrix, productInto } from '../ops/matmul.js';
import { applyReduce } from '../ops/reduce.js';
import { checkTemperature } from '../ops/temperature.js';
import { applyUnary } from '../ops/unary.js';
import { InterpolatedTarget } from '../targets/interpolate.js';
import { DenseTarget, SparseTarget } from '../targets/target.js';
import { emptyLike, hostCopy, rowsView, Tensor, view } from '../tensor.js';
import { divergenceEntry } from './divergences.js';
import { isKdTarget, kdLossNames, overwriteWithGradient, timesUpstream, type KdLossOptions, type KdTarget } from './kd_loss.js';
import { checkLabelTensor, checkRowWeights, labelArray } from './labels.js';
import { checkLabelled, rowLossSettings, softSettings, type SoftSettings } from './settings.js';

/** A teacher by its last layer: its logits are hidden·weightᵀ + bias, computed for a chunk of rows at a time. */
export interface LinearTeacher {
  /** [..., inputs of the teacher], rows as the student's. */
  hidden: Tensor;
  /** [cols, inputs of the teacher]. */
  weight: Tensor;
  /** [cols]. */
  bias?: Tensor;
}

/** Options of {@link linearKdLoss}. */
export interface LinearKdLossOptions extends KdLossOptions {
  /** [cols], added to the student's logits; gets a gradient where it requires one. */
  bias?: Tensor;
  /** The most bytes that the logits of a chunk of rows, and what else is made for it, may take. Default 512 MB; on the CPU less, where 512 rows need less. */
  scratchBytes?: number;
}

const action = 'compute linearKdLoss';
const optionNames = [...kdLossNames, 'bias', 'scratchBytes'] as const;
const teacherNames = ['hidden', 'weight', 'bias'] as const;

const defaultScratch = 512e6;

/** Chunks of whole steps add to the weight's gradient in the order of the matrix product itself. */
const stepRows = 512;

/** Arrays of a chunk's size that adaptive KL makes to find the weights of its rows. */
const adaptiveArrays = 20;

/** One side's last layer, as given. */
interface Layer {
  hidden: Tensor;
  weight: Tensor;
  bias: Tensor | null;
}

/** The columns that count of a layer's logits: hidden [rows, inputs] times weight [cols, inputs]. */
interface ValidLayer extends Layer {
  inputs: number;
}

/** A call whose arguments were looked at. */
interface Call {
  /** What gradients may be asked for. */
  operands: readonly Tensor[];
  student: Layer;
  target: KdTarget | Layer;
  /** kdLoss's alone, without labels. */
  options: KdLossOptions;
  labels: Int32Array | null;
  rows: number;
  cols: number;
  leading: readonly number[];
  /** The rows that count, where not all do. */
  kept: Int32Array | null;
  count: number;
  /** Rows of a chunk. */
  chunk: number;
  /** What the sum of the rows is divided by. */
  denominator: number;
}

interface Swept {
  /** [count], and a row of 0 behind where not all rows count. */
  rowLoss: Tensor;
  /** Of hidden, weight and bias; null where none was asked for. */
  gradients: (Tensor | null)[];
}

function checkLayer(name: string, hidden: unknown, weight: unknown, bias: unknown): Layer {
  const x = checkComputed(action, `${name}hidden`, hidden);
  const w = checkMatrix(action, `${name}weight`, weight);
  const { cols: inputs } = checkRows(action, `${name}hidden`, x);
  const operands: [string, Tensor][] = [[`${name}weight`, w]];
  if (bias !== undefined) operands.push([`${name}bias`, checkComputed(action, `${name}bias`, bias)]);
  for (const [what, operand] of operands) {
    checkSameDType(action, what, operand, `${name}hidden`, x);
    checkSameDevice(action, what, operand, `${name}hidden`, x);
  }
  if (w.shape[1] !== inputs || w.shape[0]! < 1)
    throw valueError(
      action,
      `${name}weight must have shape [cols, ${inputs}] for ${name}hidden ${shapeText(x.shape)}`,
      phrase(`it has ${shapeText(w.shape)}`),
    );
  if (bias !== undefined) checkShapeIs(action, `${name}bias`, bias as Tensor, [w.shape[0]!], `like the rows of ${name}weight`);
  return { hidden: x, weight: w, bias: (bias as Tensor | undefined) ?? null };
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

function checkTeacherLayer(target: object, student: Tensor, rows: number, cols: number, isPadded: boolean): Layer {
  const { hidden, weight, bias } = checkOptions(action, target as LinearTeacher, teacherNames);
  const layer = checkLayer("the teacher's ", hidden, weight, bias);
  for (const each of [layer.hidden, layer.weight, layer.bias])
    if (each !== null) {
      checkConstant(action, 'the teacher', each);
      checkSameDevice(action, 'the teacher', each, 'hidden', student);
    }
  checkSameDType(action, "the teacher's hidden", layer.hidden, 'hidden', student);
  checkRowCount(layer.hidden, student, rows);
  const width = layer.weight.shape[0]!;
  if (isPadded ? width < cols : width !== cols)
    throw valueError(action, `the teacher's weight must have ${cols} rows like weight`, phrase(`it has ${width}`));
  return layer;
}

function checkRowCount(teacher: Tensor, student: Tensor, rows: number): void {
  const { leading } = checkRows(action, 'the teacher', teacher);
  const own = student.shape.slice(0, -1);
  if (!sameShape(leading, own) && !sameShape(leading, [rows]))
    throw valueError(action, `the teacher must have the rows of hidden, shape ${shapeText(own)}`, phrase(`it has ${shapeText(leading)}`));
}

/** What holds for all rows; the rest is checked with the first chunk. */
function checkTarget(target: KdTarget, student: Tensor, rows: number): void {
  if (target instanceof SparseTarget) {
    const { indices } = target;
    checkLive(action, 'the target', indices);
    if (indices.shape[0] !== rows)
      throw valueError(action, `the target must have ${rows} rows like hidden`, phrase(`it has ${indices.shape[0]}`));
    return;
  }
  const given = target instanceof Tensor ? [target] : target instanceof DenseTarget ? [target.values] : [target.student, target.teacher];
  for (const teacher of given) {
    checkFloating(action, 'the teacher', teacher);
    checkConstant(action, 'the teacher', teacher);
    checkRowCount(teacher, student, rows);
  }
}

/** The rows that are read, and what the sum of their losses is divided by. Labels and weights on a device are read back. */
function counted(
  labels: Int32Array | null,
  weights: ArrayLike<number> | null,
  rows: number,
  { ignoreIndex = -100, reduction = 'mean', denominator = 'rows' }: KdLossOptions,
): { kept: Int32Array | null; count: number; divisor: number } {
  let named = 0;
  let mass = 0;
  const kept = new Int32Array(rows);
  let count = 0;
  for (let r = 0; r < rows; r++) {
    if (labels?.[r] === ignoreIndex) continue;
    named++;
    mass += weights?.[r] ?? 1;
    if (weights?.[r] !== 0) kept[count++] = r;
  }
  const divisor = reduction !== 'mean' ? 1 : typeof denominator === 'number' ? denominator : denominator === 'weights' ? mass : named;
  // With nothing to divide by all is 0, whatever the rows hold.
  if (divisor === 0) count = 0;
  return { kept: count === rows ? null : kept.subarray(0, count), count, divisor };
}

/** Bytes that are made for each row of a chunk. */
function bytesPerRow(student: Layer, target: KdTarget | Layer, cols: number, isGathered: boolean, { divergence }: SoftSettings): number {
  const size = bytesPerElement(student.hidden.dtype);
  const rowOf = (x: Tensor): number => (x.size / x.shape.slice(0, -1).reduce((a, b) => a * b, 1)) * bytesPerElement(x.dtype);
  const gathered = (x: Tensor): number => (isGathered && x.size > 0 ? rowOf(x) : 0);
  // The logits, their hidden states where rows are picked out, labels and what else is a number for each row.
  let bytes = cols * size + gathered(student.hidden) + 64;
  if (divergenceEntry(divergence).byRow === true) bytes += adaptiveArrays * cols * size;
  if (target instanceof SparseTarget) bytes += target.k * 12;
  else if (target instanceof InterpolatedTarget) bytes += gathered(target.student) + gathered(target.teacher);
  else if (target instanceof Tensor) bytes += gathered(target);
  // To look at the masses of probabilities they are widened and raised.
  else if (target instanceof DenseTarget) bytes += gathered(target.values) + (target.kind === 'logits' ? 0 : 2 * cols * size);
  else bytes += cols * size + gathered(target.hidden);
  return bytes;
}

function rowsOfChunk(perRow: number, rows: number, scratchBytes: number): number {
  const fitting = Math.floor(scratchBytes / perRow);
  if (fitting < 1) throw valueError(action, `scratchBytes must hold what one row needs, ${perRow} bytes`, scratchBytes);
  if (fitting >= rows) return Math.max(rows, 1);
  return fitting < stepRows ? fitting : fitting - (fitting % stepRows);
}

function checkCall(hidden: Tensor, weight: Tensor, target: KdTarget | LinearTeacher, given: LinearKdLossOptions | undefined): Call {
  const { bias, scratchBytes, ...options } = checkOptions(action, given, optionNames);
  const own = checkLayer('', hidden, weight, bias);
  const { rows, leading } = checkRows(action, 'hidden', own.hidden);
  const width = own.weight.shape[0]!;
  const cols = options.cols === undefined ? width : checkWhole(action, 'cols', options.cols, 1, width);
  if (target === null || typeof target !== 'object' || Array.isArray(target) || ArrayBuffer.isView(target))
    throw kindError(
      action,
      'target must be { hidden, weight } of the teacher, a Tensor of its logits, or made by denseTarget, captureTopK, sampleTarget or sparseTarget',
      target,
    );
  const isDirect = isKdTarget(target);
  const soft = softSettings(
    action,
    options,
    !(target instanceof SparseTarget) ? 'dense' : target.logProbs === null ? 'sparse_weights' : 'sparse_log_probs',
  );
  checkLabelled(action, soft, options);
  rowLossSettings(action, options);
  if (isDirect) checkTarget(target, own.hidden, rows);
  if (options.temperature !== undefined) checkTemperature(action, options.temperature, rows, leading, own.hidden);
  const weights =
    options.rowWeights === undefined ? null : hostCopy(checkRowWeights(action, options.rowWeights, own.hidden, rows, leading), action);
  const { labels: givenLabels } = options;
  // A copy: backward() may read them again.
  const labels =
    givenLabels === undefined
      ? null
      : givenLabels instanceof Tensor
        ? (hostCopy(checkLabelTensor(action, givenLabels, own.hidden, rows, leading), action) as Int32Array).slice()
        : labelArray(action, givenLabels, rows, leading).slice();
  const teacher = isDirect ? target : checkTeacherLayer(target, own.hidden, rows, cols, options.cols !== undefined);
  const { kept, count, divisor } = counted(labels, weights, rows, options);
  const perRow = bytesPerRow(own, teacher, cols, kept !== null, soft);
  // On the CPU longer chunks gain nothing and shorter ones read the weights too often.
  const ample = own.hidden.device === 'cpu' ? Math.min(stepRows * perRow, defaultScratch) : defaultScratch;
  const most = scratchBytes === undefined ? Math.max(ample, perRow) : checkWhole(action, 'scratchBytes', scratchBytes, 1);
  return {
    operands: own.bias === null ? [own.hidden, own.weight] : [own.hidden, own.weight, own.bias],
    student: own,
    target: teacher,
    options: { ...options, labels: undefined },
    labels,
    rows,
    cols,
    leading,
    kept,
    count,
    chunk: rowsOfChunk(perRow, count, most),
    denominator: divisor,
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

/** hidden·weightᵀ + bias of a chunk's rows, into `out` [rows of the chunk, cols]. */
function logitsInto(out: Tensor, hidden: Tensor, { weight, bias, inputs }: ValidLayer): Tensor {
  const [rows, cols] = out.shape as [number, number];
  productInto(action, hidden, weight, out, { m: rows, n: cols, k: inputs, transposeB: true });
  return bias === null ? out : applyBinary(action, 'add', out, bias, { rows, cols, how: 'row' }, out);
}

function teacherLogits(call: Call, take: Take, target: Layer, rows: number): Tensor {
  const layer = validLayer(target, call);
  return logitsInto(emptyLike(layer.hidden, action, [rows, call.cols]), take.rows(layer.hidden), layer);
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
  const { options, labels, kept, denominator } = call;
  const { temperature, rowWeights, reduction = 'mean' } = options;
  const own = { ...options };
  if (temperature instanceof Tensor) own.temperature = take.numbers(temperature);
  if (rowWeights !== undefined) own.rowWeights = take.numbers(rowWeights);
  if (labels !== null)
    own.labels = kept === null ? labels.subarray(start, start + count) : kept.subarray(start, start + count).map((row) => labels[row]!);
  if (reduction !== 'mean') return own;
  // What no kernel divides by, a sum of weights below 0 say, divides the results.
  if (isDivisor(denominator)) own.denominator = denominator;
  else own.reduction = 'sum';
  return own;
}

function isDivisor(value: number): boolean {
  return value > 0 && value < Infinity;
}

/** One chunk: row losses, and what it adds to the gradients; `upstream`, one for each row of the call, multiplies the rows' own. */
function runChunk(call: Call, logits: Tensor, swept: Swept, start: number, upstream: Tensor | null): void {
  const { target, cols } = call;
  const student = validLayer(call.student, call);
  const [rows] = logits.shape as [number];
  const take = takeOf(call, start, rows);
  const hidden = take.rows(student.hidden);
  logitsInto(logits, hidden, student);
  const teacher = isKdTarget(target) ? targetOf(target, take) : teacherLogits(call, take, target, rows);
  const [gradientHidden, gradientWeight, gradientBias] = swept.gradients;
  const wantsGradient = swept.gradients.some((each) => each !== null);
  const rowLoss = rowsView(swept.rowLoss, start, rows, action);
  try {
    overwriteWithGradient(action, logits, teacher, optionsOfChunk(call, take, start, rows), { rowLoss, wantsGradient });
  } catch (error) {
    throw renumbered(error, call, start);
  }
  if (!wantsGradient || rows === 0) return;
  const { weight, inputs } = student;
  if (upstream !== null) applyBinary(action, 'mul', logits, take.numbers(upstream), { rows, cols, how: 'column' }, logits);
  if (gradientHidden) productInto(action, logits, weight, rowsView(gradientHidden, start, rows, action), { m: rows, n: inputs, k: cols });
  // The padding behind the valid columns stays 0.
  const valid = (x: Tensor): Tensor => rowsView(x, 0, cols, action);
  if (gradientWeight) productInto(action, logits, hidden, valid(gradientWeight), { m: cols, n: inputs, k: rows, transposeA: true }, true);
  if (gradientBias) {
    const into = valid(gradientBias);
    addInto(into, into, applyReduce(action, 'sum', logits, rows, cols, 0, [cols]));
  }
}

/** All chunks in order. */
function sweep(call: Call, needs: readonly boolean[], upstream: Tensor | null): Swept {
  const { operands, student, kept, count, chunk, cols } = call;
  // Rows that do not count are gathered from one of zeros behind the others.
  const entries = kept === null ? count : count + 1;
  const made: Tensor[] = [];
  const make = (shape: readonly number[]): Tensor => {
    const out = emptyLike(student.hidden, action, shape);
    made.push(out);
    return out;
  };
  try {
    const gradients = operands.map((operand, i) => {
      if (!needs[i]) return null;
      const out = make(i === 0 ? [entries, student.weight.shape[1]!] : operand.shape);
      if (i > 0) fill(out, 0, action);
      return out;
    });
    const swept: Swept = { rowLoss: make([entries]), gradients };
    tidy(() =>
      noGrad(() => {
        for (const each of [swept.rowLoss, gradients[0]]) if (kept !== null && each) fill(rowsView(each, count, 1, action), 0, action);
        const logits = emptyLike(student.hidden, action, [chunk, cols]);
        let start = 0;
        do {
          const rows = Math.min(chunk, count - start);
          const from = start;
          tidy(() => runChunk(call, rows === chunk ? view(logits) : rowsView(logits, 0, rows, action), swept, from, upstream));
          start += rows;
        } while (start < count);
      }),
    );
    return swept;
  } catch (error) {
    for (const each of made) each.dispose();
    throw error;
  }
}

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
 * kdLoss(hidden·weightᵀ + bias, target) without logits that are whole in memory, and the gradients for hidden, weight and bias.
 *
 * Chunks of rows one after another: logits, their row losses, their gradient g over them, then ∂hidden = g·weight, ∂weight += gᵀ·hidden and
 * ∂bias += Σ g. Rows that are ignored or of weight 0 take part in no product. The gradients are made with the loss; an upstream gradient other than 1 scales
 * them once. With reduction 'none' the forward makes the row losses alone, and backward() computes the logits once more.
 * The idea: Cut Cross-Entropy (Wijmans et al. 2024, arXiv 2411.09009) and Liger-Kernel (Hsu et al. 2024, arXiv 2410.10989).
 *
 * @param hidden [..., inputs], float32, or float64 on the CPU
 * @param weight [cols, inputs], of the same dtype
 * @param target what {@link kdLoss} takes, its rows those of hidden, or the teacher's own `{ hidden, weight, bias }`
 * @returns a single number, or with reduction 'none' one for each row in the leading shape of hidden
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
