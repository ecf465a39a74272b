// Knowledge-distillation loss and cross-entropy on tensors: one launch gives the loss and its gradient.
import { fill } from '../arithmetic.js';
import { defineOp, wantsGradient, type Backward, type Computed } from '../autograd.js';
import {
  checkConstant,
  checkFloating,
  checkLive,
  checkOptions,
  checkRows,
  checkSameDevice,
  checkSameDType,
  checkWhole,
  sameShape,
  type RowsOf,
} from '../check.js';
import { computedIn, type DType } from '../dtypes.js';
import { kindError, LimbeckError, phrase, shapeText, valueError, wording } from '../errors.js';
import type { Handle } from '../native.js';
import { applyBinary, type Plan } from '../ops/binary.js';
import { checkTemperature } from '../ops/temperature.js';
import { applyUnary } from '../ops/unary.js';
import { InterpolatedTarget } from '../targets/interpolate.js';
import { DenseTarget, SparseTarget } from '../targets/target.js';
import { allocate } from '../storage.js';
import { cloned, emptyLike, fromArray, handleOf, handleOrNull, hostCopy, ordinalOf, stateOf, Tensor } from '../tensor.js';
import { headShare } from './adaptive_kl.js';
import { divergenceEntry } from './divergences.js';
import { noTeacher, runRowLoss, type SoftNumbers, type StudentPart, type TeacherPart } from './kernel.js';
import { checkLabels, checkLabelTensor, checkRowWeights, labelArray, type LabelNumbers } from './labels.js';
import { checkMasses } from './masses.js';
import {
  checkLabelled,
  hardOnly,
  isRenormalizing,
  rowLossNames,
  rowLossSettings,
  softNames,
  softSettings,
  type RowLossOptions,
  type SoftOptions,
  type SoftSettings,
} from './settings.js';

/** What {@link kdLoss} takes for a target; a Tensor is the teacher's logits. */
export type KdTarget = DenseTarget | InterpolatedTarget | SparseTarget | Tensor;

/** Options of {@link crossEntropy}. */
export interface CrossEntropyOptions extends RowLossOptions {
  /** float32 Tensor [rows]. */
  rowWeights?: Tensor;
  /** Valid columns of a padded vocabulary; the others get gradient 0. Default: all. */
  cols?: number;
}

/** Options of {@link kdLoss}. */
export interface KdLossOptions extends CrossEntropyOptions, SoftOptions {
  /** A positive number or a float32 Tensor [rows]; divides both sides' logits. Default 1, or what a sparse target was captured at. */
  temperature?: number | Tensor;
  /** int32 Tensor, Int32Array, BigInt64Array or numbers, one for each row. */
  labels?: Tensor | LabelNumbers;
}

const crossEntropyNames = [...rowLossNames, 'rowWeights', 'cols'] as const;
export const kdLossNames = [...crossEntropyNames, ...softNames, 'temperature', 'labels'] as const;

/** The student's rows, and how many of their columns count. */
interface Student extends RowsOf {
  tensor: Tensor;
  /** Columns in memory. */
  width: number;
}

function checkStudent(action: string, value: unknown, cols: unknown): Student {
  const tensor = checkFloating(action, 'student', value);
  const { rows, cols: width, leading } = checkRows(action, 'student', tensor, 1);
  return { tensor, rows, leading, width, cols: cols === undefined ? width : checkWhole(action, 'cols', cols, 1, width) };
}

/** Temporary tensors of one call, disposed when it is over. */
class Temporaries {
  #tensors: Tensor[] = [];
  add(tensor: Tensor): Tensor {
    this.#tensors.push(tensor);
    return tensor;
  }
  dispose(): void {
    for (const tensor of this.#tensors) tensor.dispose();
  }
}

function labelHandle(
  action: string,
  labels: unknown,
  { tensor, rows, cols, leading }: Student,
  options: CrossEntropyOptions,
  temporaries: Temporaries,
): Handle | null {
  if (labels === undefined) return null;
  if (labels instanceof Tensor) return handleOf(checkLabelTensor(action, labels, tensor, rows, leading), action);
  const array = labelArray(action, labels, rows, leading);
  if (tensor.device === 'cpu') return array;
  // The CPU's kernel refuses a label outside; here it can only be seen before the upload. Rows of weight 0 are not read.
  if (options.rowWeights === undefined) checkLabels(action, array, cols, options);
  return handleOf(temporaries.add(fromArray(array, 'int32', [rows], ordinalOf(tensor, action), action)), action);
}

function labelsOnHost(action: string, labels: unknown, { rows, leading }: Student): ArrayLike<number> | null {
  if (labels === undefined) return null;
  return labels instanceof Tensor ? hostCopy(labels, action) : labelArray(action, labels, rows, leading);
}

function weightHandle(action: string, weights: unknown, { tensor, rows, leading }: Student): Handle | null {
  return weights === undefined ? null : handleOf(checkRowWeights(action, weights, tensor, rows, leading), action);
}

function densePart(action: string, target: DenseTarget | Tensor, student: Student, options: KdLossOptions): TeacherPart {
  const { tensor, rows, cols, width, leading } = student;
  const kind = target instanceof Tensor ? 'logits' : target.kind;
  const teacher = checkFloating(action, 'the teacher', target instanceof Tensor ? target : target.values);
  checkConstant(action, 'the teacher', teacher);
  checkNoWider(action, teacher.dtype, tensor.dtype);
  checkSameDevice(action, 'the teacher', teacher, 'student', tensor);
  const { cols: teacherWidth, leading: teacherLeading } = checkRows(action, 'the teacher', teacher);
  const fits = teacherWidth === width || (options.cols !== undefined && teacherWidth >= cols);
  if (!fits || !(sameShape(teacherLeading, leading) || sameShape(teacherLeading, [rows]))) {
    throw valueError(
      action,
      `the teacher must have shape ${shapeText(tensor.shape)} like student`,
      phrase(`it has ${shapeText(teacher.shape)}`),
    );
  }
  const { temperature: wanted = 1 } = options;
  const { temperature, rowTemperature } = checkTemperature(action, wanted, rows, leading, tensor);
  return {
    target: kind,
    teacher: handleOf(teacher, action),
    teacherStride: teacherWidth,
    anchor: null,
    interpolation: 0,
    indices: null,
    values: null,
    tailLogMass: null,
    k: 0,
    logProbScale: 1,
    temperature,
    rowTemperature: handleOrNull(rowTemperature, action),
    rowParameter: null,
  };
}

/** Between the two ends the kernel reads both; at an end there is one tensor of logits to read. */
function interpolatedPart(action: string, target: InterpolatedTarget, student: Student, options: KdLossOptions): TeacherPart {
  const { t, teacher, student: anchor } = target;
  if (t === 0 || t === 1) return densePart(action, t === 0 ? anchor : teacher, student, options);
  const part = densePart(action, teacher, student, options);
  checkSameDType(action, "the target's student", anchor, 'student', student.tensor);
  checkLive(action, "the target's student", anchor);
  return { ...part, target: 'interpolated', anchor: handleOf(anchor, action), interpolation: t };
}

/** A teacher is read as what the student is computed in: exactly, or not at all. */
export function checkNoWider(action: string, teacher: DType, student: DType): void {
  if (teacher !== 'float64' || student === 'float64') return;
  throw kindError(
    action,
    `the teacher must be float32, float16 or bfloat16 for a ${student} student`,
    phrase('it is float64; cast() converts'),
  );
}

function sparsePart(
  action: string,
  target: SparseTarget,
  student: Student,
  options: KdLossOptions,
  soft: SoftSettings,
  temporaries: Temporaries,
): TeacherPart {
  const { tensor, rows, cols, leading } = student;
  const { indices, k, givenTail } = target;
  // One of the two is there.
  const given = (target.logProbs ?? target.weights)!;
  checkLive(action, 'the target', indices);
  checkSameDevice(action, 'the target', indices, 'student', tensor);
  if (indices.shape[0] !== rows)
    throw valueError(action, `the target must have ${rows} rows like student`, phrase(`it has ${indices.shape[0]}`));
  if (k > cols)
    throw valueError(action, `the target must have at most ${cols} entries a row, the student's columns`, phrase(`it has ${k}`));
  if (target.cols !== null && target.cols !== cols) {
    throw new LimbeckError(
      'wrong_target',
      wording(
        action,
        `the student must have the ${target.cols} columns the target was taken from`,
        `it has ${cols}; option 'cols' leaves padding out`,
      ),
    );
  }
  const captured = target.temperature;
  const { temperature: wanted = captured } = options;
  const { temperature, rowTemperature } = checkTemperature(action, wanted, rows, leading, tensor);
  let values = given;
  let logProbScale = 1;
  if (wanted !== captured) {
    const ratio = temperatureRatio(action, captured, wanted, rows);
    if (ratio !== null && !isRenormalizing(soft.residual)) {
      const was = captured instanceof Tensor ? 'the ones it was captured at' : `${captured}, which it was captured at,`;
      throw valueError(
        action,
        `temperature must be ${was} with residual '${soft.residual}'`,
        wanted instanceof Tensor ? phrase('it is another') : wanted,
      );
    }
    if (typeof ratio === 'number') logProbScale = ratio;
    else if (ratio !== null) {
      const retempered = retemper(hostCopy(given, action), hostCopy(indices, action), ratio, k);
      values = temporaries.add(fromArray(retempered, 'float32', [rows, k], ordinalOf(tensor, action), action));
    }
  }
  return {
    target: target.logProbs === null ? 'sparse_weights' : 'sparse_log_probs',
    teacher: null,
    teacherStride: 0,
    anchor: null,
    interpolation: 0,
    indices: handleOf(indices, action),
    values: handleOf(values, action),
    tailLogMass: handleOrNull(givenTail, action),
    k,
    logProbScale,
    temperature,
    rowTemperature: handleOrNull(rowTemperature, action),
    rowParameter: null,
  };
}

/**
 * Tc/T·(ln p − that of the row's likeliest entry): to what renormalises it is Tc/T·ln p, whose digits behind the point a large ratio
 * would leave no room for.
 */
function retemper(logProbs: ArrayLike<number>, ids: ArrayLike<number>, ratio: Float64Array, k: number): Float32Array {
  const out = new Float32Array(logProbs.length);
  ratio.forEach((factor, r) => {
    let most = -Infinity;
    for (let j = r * k; j < (r + 1) * k; j++) if (ids[j] !== -1 && logProbs[j]! > most) most = logProbs[j]!;
    // A row without any is what it was.
    const [scale, offset] = most === -Infinity ? [1, 0] : [factor, most];
    for (let j = r * k; j < (r + 1) * k; j++) out[j] = scale * (logProbs[j]! - offset);
  });
  return out;
}

/** Tc/T for all rows or each, or null where they are equal everywhere. */
function temperatureRatio(action: string, captured: number | Tensor, wanted: number | Tensor, rows: number): number | Float64Array | null {
  if (typeof captured === 'number' && typeof wanted === 'number') return captured === wanted ? null : captured / wanted;
  const from = captured instanceof Tensor ? hostCopy(captured, action) : null;
  const to = wanted instanceof Tensor ? hostCopy(wanted, action) : null;
  const ratio = new Float64Array(rows);
  let isSame = true;
  for (let r = 0; r < rows; r++) {
    const Tc = from === null ? (captured as number) : from[r]!;
    const T = to === null ? (wanted as number) : to[r]!;
    if (Math.fround(Tc) !== Math.fround(T)) isSame = false;
    ratio[r] = Tc / T;
  }
  return isSame ? null : ratio;
}

function rowLossOp(
  action: string,
  student: Student,
  options: KdLossOptions,
  soft: SoftNumbers,
  teacher: TeacherPart,
  labels: Handle | null,
): Computed {
  const { tensor, rows, cols, width, leading } = student;
  const settings = rowLossSettings(action, options);
  const rowWeights = weightHandle(action, options.rowWeights, student);
  const isWhole = settings.reduction !== 'none';
  const wants = wantsGradient(tensor);
  const lossType = computedIn(tensor.dtype);
  const out = emptyLike(tensor, action, isWhole ? [] : leading, lossType);
  const gradient = wants ? emptyLike(tensor, action) : null;
  // The kernel writes the valid columns only.
  if (gradient !== null && cols < width) fill(gradient, 0, action);
  const rowLosses = isWhole ? allocate(action, lossType, rows, ordinalOf(tensor, action)) : null;
  try {
    const part: StudentPart = {
      student: handleOf(tensor, action),
      labels,
      rowWeights,
      rowLoss: rowLosses === null ? handleOf(out, action) : rowLosses.handle,
      loss: isWhole ? handleOf(out, action) : null,
      gradient: handleOrNull(gradient, action),
      rows,
      cols,
      studentStride: width,
      gradientStride: width,
    };
    runRowLoss(action, part, teacher, soft, settings);
  } catch (error) {
    for (const each of [out, gradient]) each?.dispose();
    throw error;
  } finally {
    rowLosses?.free();
  }
  if (gradient === null) return { out, inputs: [tensor], backward: () => [null] };
  return { out, inputs: [tensor], saved: [gradient], backward: handOver(action, gradient, rows, width, isWhole) };
}

/** The gradient was made with the loss: an upstream of 1 takes it as it is, another one scales it once. */
export function timesUpstream(action: string, gradient: Tensor, upstream: Tensor, retain: boolean, plan?: Plan): Tensor {
  const { uniform } = stateOf(upstream);
  if (uniform === 1) return retain ? cloned(gradient, action) : gradient;
  const out = retain ? emptyLike(gradient, action) : gradient;
  if (uniform !== null) return applyUnary(action, 'scale', gradient, uniform, out);
  return applyBinary(action, 'mul', gradient, upstream, plan ?? { rows: 1, cols: gradient.size, how: 'scalar' }, out);
}

function handOver(action: string, gradient: Tensor, rows: number, width: number, isWhole: boolean): Backward {
  const plan: Plan | undefined = isWhole ? undefined : { rows, cols: width, how: 'column' };
  return (upstream, { retain }) => [timesUpstream(action, gradient, upstream, retain, plan)];
}

/** A call whose arguments were looked at: what the kernel takes of each side. */
interface ReadyCall {
  student: Student;
  options: KdLossOptions;
  soft: SoftNumbers;
  teacher: TeacherPart;
  labels: Handle | null;
}

/** Whether a value is something {@link kdLoss} compares with. */
export function isKdTarget(value: unknown): value is KdTarget {
  return value instanceof SparseTarget || value instanceof DenseTarget || value instanceof InterpolatedTarget || value instanceof Tensor;
}

/** Checks the arguments and runs `use` on them; what was made for the call is disposed after it. */
function withCall<R>(action: string, studentTensor: Tensor, target: KdTarget, options: KdLossOptions, use: (call: ReadyCall) => R): R {
  const student = checkStudent(action, studentTensor, options.cols);
  const isSparse = target instanceof SparseTarget;
  if (!isKdTarget(target)) {
    throw kindError(
      action,
      'target must be a Tensor of teacher logits or made by denseTarget, interpolateTarget, captureTopK, sampleTarget or sparseTarget',
      target,
    );
  }
  const soft = softSettings(action, options, !isSparse ? 'dense' : target.logProbs === null ? 'sparse_weights' : 'sparse_log_probs');
  checkLabelled(action, soft, options);
  const temporaries = new Temporaries();
  try {
    const part = isSparse
      ? sparsePart(action, target, student, options, soft, temporaries)
      : target instanceof InterpolatedTarget
        ? interpolatedPart(action, target, student, options)
        : densePart(action, target, student, options);
    if (divergenceEntry(soft.divergence).byRow === true && soft.hardWeight < 1) {
      if (isSparse)
        throw valueError(
          action,
          `divergence must not be '${soft.divergence}' with a sparse target; a dense one has a head`,
          soft.divergence,
        );
      const share = headShare(student.tensor, target, { ...student, temperature: options.temperature ?? 1, head: soft.parameterA });
      part.rowParameter = handleOf(temporaries.add(share), action);
    }
    const labels = labelHandle(action, options.labels, student, options, temporaries);
    if (target instanceof DenseTarget && target.kind !== 'logits' && soft.hardWeight < 1) {
      checkMasses(action, target, student.cols, options, soft.anyMass, () => labelsOnHost(action, options.labels, student));
    }
    return use({ student, options, soft, teacher: part, labels });
  } finally {
    temporaries.dispose();
  }
}

function runKdLoss(student: Tensor, target: KdTarget, given?: KdLossOptions): Computed {
  const action = 'compute kdLoss';
  const options = checkOptions(action, given, kdLossNames);
  return withCall(action, student, target, options, (call) =>
    rowLossOp(action, call.student, call.options, call.soft, call.teacher, call.labels),
  );
}

/**
 * {@link kdLoss} of logits [rows, cols] that nobody needs afterwards, outside the graph: the row losses go into `rowLoss` [rows], and the
 * gradient, where it is asked for, over the logits.
 */
export function overwriteWithGradient(
  action: string,
  logits: Tensor,
  target: KdTarget,
  options: KdLossOptions,
  { rowLoss, wantsGradient: wants }: { rowLoss: Tensor; wantsGradient: boolean },
): void {
  withCall(action, logits, target, options, ({ student, soft, teacher, labels }) => {
    const settings = rowLossSettings(action, options);
    const loss = settings.reduction === 'none' ? null : emptyLike(rowLoss, action, []);
    const { rows, cols, width } = student;
    const part: StudentPart = {
      student: handleOf(logits, action),
      labels,
      rowWeights: weightHandle(action, options.rowWeights, student),
      rowLoss: handleOf(rowLoss, action),
      loss: handleOrNull(loss, action),
      gradient: wants ? handleOf(logits, action) : null,
      rows,
      cols,
      studentStride: width,
      gradientStride: width,
    };
    try {
      runRowLoss(action, part, teacher, soft, settings);
    } finally {
      loss?.dispose();
    }
  });
}

/**
 * The distillation loss of student logits against what a teacher says, and its gradient, in one pass:
 *
 * row = w·[(1 − h)·s·D(p, q) + h·CE(z, y)], with p the teacher and q the student at temperature T, s = T² (or 1), h the hard
 * weight and w the row's weight. Forward KL, the default: D = Σ p ln(p/q), ∂D/∂z = (q − p)/T (Hinton et al. 2015, arXiv 1503.02531).
 * `reverse_kl`: Σ q ln(q/p). `symmetric_kl`: half of each. `jensen_shannon`: β KL(p‖m) + (1 − β) KL(q‖m), m = βp + (1 − β)q. `skew_forward_kl`:
 * KL(p‖αp + (1 − α)q). `skew_reverse_kl`: KL(q‖αq + (1 − α)p). `total_variation`: ½ Σ|p − q|. `squared_hellinger`: 1 − Σ √(pq).
 * `soft_cross_entropy`: −Σ p ln q. `adaptive_kl`: a·KL(p‖q) + (1 − a)·KL(q‖p) with a found for each row, dense targets only. Where D is infinite the gradient is NaN, except for forward KL and soft cross-entropy, whose q − p stays finite.
 *
 * Half types are computed on in float32: the loss is float32, the gradient rounded once, to nearest, to the student's dtype; one that is
 * too large for it is infinite there.
 *
 * @param student logits [..., cols], float32, float16, bfloat16, or float64 on the CPU (dense targets)
 * @param target teacher logits of the same shape, or a target of {@link denseTarget}, {@link captureTopK} or {@link sparseTarget}; a dense
 *   one of any of these dtypes, float64 for a float64 student alone
 * @returns a single number, or with reduction 'none' one for each row in the student's leading shape; float32, or float64 for a float64 student
 * @throws TypeError for arguments of the wrong kind, a sparse target without a residual, a teacher that requires grad;
 *   RangeError for values and shapes; LimbeckError `not_available` for what has no kernel yet, `wrong_target` for a target of other columns
 *
 * @example
 * const loss = kdLoss(student, teacherLogits, { temperature: 2, labels, hardWeight: 0.1 });
 * loss.backward();
 */
export const kdLoss = defineOp({
  name: 'kdLoss',
  run: (student: Tensor, target: KdTarget, options?: KdLossOptions) => runKdLoss(student, target, options),
});

/**
 * Cross-entropy of logits and labels: −Σ t ln q with t = (1 − ε)·e_y + ε/V, and its gradient q − t, in one pass.
 *
 * @param student logits [..., cols], float32, float16, bfloat16, or float64 on the CPU
 * @param labels int32 Tensor, Int32Array, BigInt64Array or numbers, one for each row; no shift
 * @throws RangeError for a label outside [0, cols) that is neither ignoreIndex nor unlabelledIndex
 *
 * @example
 * crossEntropy(tensor([[2, 1, 0]]), [0]).item(); // 0.4076
 */
export const crossEntropy = defineOp({
  name: 'crossEntropy',
  run: (logits: Tensor, labels: Tensor | LabelNumbers, given?: CrossEntropyOptions): Computed => {
    const action = 'compute crossEntropy';
    const options = checkOptions(action, given, crossEntropyNames);
    const student = checkStudent(action, logits, options.cols);
    if (labels === undefined) throw kindError(action, 'labels must be given', labels);
    const temporaries = new Temporaries();
    try {
      const handle = labelHandle(action, labels, student, options, temporaries);
      return rowLossOp(action, student, options, hardOnly(), noTeacher, handle);
    } finally {
      temporaries.dispose();
    }
  },
});
