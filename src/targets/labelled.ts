// Targets that know the label: a teacher put right where it is wrong, enhanced or mixed with the label, and a teacher made of labels alone.
import { tidy } from '../autograd.js';
import {
  checkDType,
  checkFinite,
  checkFraction,
  checkLive,
  checkOneOf,
  checkOptions,
  checkPositive,
  checkSameDevice,
  checkWhole,
  type RowsOf,
} from '../check.js';
import { parseDevice, type Device } from '../device.js';
import { valueError } from '../errors.js';
import { checkLabels, checkPerRow, labelArray, type LabelNumbers } from '../losses/labels.js';
import { findCode, kernel } from '../native.js';
import { emptyLike, fromArray, handleOf, ordinalOf, Tensor, uniformLike, view } from '../tensor.js';
import { DenseTarget } from './target.js';
import { checkTeacher, probabilitiesOf, type TeacherRows } from './teacher.js';

/** Labels that name no column, as in {@link kdLoss}: their rows stay the teacher's. */
export interface LabelOptions {
  /** Rows that the loss will ignore. Default −100. */
  ignoreIndex?: number;
  /** Rows without a label. Default: none. */
  unlabelledIndex?: number;
}

const labelNames = ['ignoreIndex', 'unlabelledIndex'] as const;

type Labels = Tensor | LabelNumbers;

/** The label of each row as int32 on the device of the rows. A label out of range is seen there only where it comes from the host. */
function labelTensor(action: string, labels: unknown, values: Tensor, { rows, cols, leading }: RowsOf, options: LabelOptions): Tensor {
  if (labels instanceof Tensor) {
    checkLive(action, 'labels', labels);
    checkDType(action, 'labels', labels, 'int32');
    checkSameDevice(action, 'labels', labels, 'the teacher', values);
    checkPerRow(action, 'labels', labels.shape, rows, leading);
    return labels;
  }
  const array = labelArray(action, labels, rows, leading);
  checkLabels(action, array, cols, options);
  return fromArray(array, 'int32', [rows], ordinalOf(values, action), action, array !== labels);
}

function checkIndices(action: string, { ignoreIndex, unlabelledIndex }: LabelOptions): void {
  const least = -(2 ** 31);
  if (ignoreIndex !== undefined) checkWhole(action, 'ignoreIndex', ignoreIndex, least, 2 ** 31 - 1);
  if (unlabelledIndex !== undefined) checkWhole(action, 'unlabelledIndex', unlabelledIndex, least, 2 ** 31 - 1);
}

/** f of each row and its label as a new tensor: one pass. */
function withLabels(
  action: string,
  name: string,
  values: Tensor,
  shape: RowsOf,
  labels: Tensor,
  parameter: number,
  options: LabelOptions,
): Tensor {
  const { ignoreIndex = -100, unlabelledIndex = -(2 ** 31) } = options;
  const out = emptyLike(values, action);
  kernel('label_target', action)(
    handleOf(values, action),
    handleOf(labels, action),
    handleOf(out, action),
    shape.rows,
    shape.cols,
    findCode('label_function', name),
    parameter,
    ignoreIndex,
    unlabelledIndex,
  );
  return out;
}

/** The rows as probabilities, and their labels. */
function labelledProbs(action: string, teacher: TeacherRows, labels: unknown, options: LabelOptions): { probs: Tensor; labels: Tensor } {
  checkIndices(action, options);
  const column = labelTensor(action, labels, teacher.values, teacher, options);
  // Probabilities that are there need no copy: the kernel writes elsewhere.
  const probs = teacher.kind === 'probs' ? view(teacher.values) : probabilitiesOf(action, teacher);
  return { probs, labels: column };
}

const methods = ['swap', 'sort'] as const;

/** Options of {@link correctTarget}. */
export interface CorrectOptions extends LabelOptions {
  /** Default 'swap'. */
  method?: (typeof methods)[number];
}

/**
 * A teacher whose rows all favour their label. Rows whose largest value is the label's stay as they are; in the others
 *
 * - `'swap'` exchanges the label's value with the largest (the first of several) (probability shift of arXiv 1911.07471,
 *   swapped logits of arXiv 2504.20108);
 * - `'sort'` gives the label the largest value, and each class that stood before it the next smaller one, so that their
 *   order is kept (after the abstract of arXiv 2508.16544; equal values stand in order of their columns).
 *
 * Values are moved, never changed: the target is of the teacher's kind (logits, probabilities or log-probabilities), with
 * its mass, and correct at every temperature. Rows that are ignored or unlabelled stay as they are. A row with NaN stays one.
 *
 * On the CPU 'sort' takes time n·ln n in the n classes that stand before the label, on a device n walks over the row.
 *
 * @param teacher a dense target, or a Tensor of logits [..., cols]
 * @param labels one for each row, in the forms {@link kdLoss} takes
 * @throws RangeError for a label outside [0, cols) (a label tensor on a device: a row of NaN); TypeError where the teacher requires grad
 *
 * @example
 * kdLoss(student, correctTarget(teacherLogits, labels, { method: 'sort' }), { temperature: 4 });
 */
export function correctTarget(teacher: DenseTarget | Tensor, labels: Labels, options?: CorrectOptions): DenseTarget {
  const action = 'correct a target';
  const given = checkTeacher(action, 'teacher', teacher);
  const settings = checkOptions(action, options, ['method', ...labelNames]);
  const { method = 'swap' } = settings;
  checkOneOf(action, 'method', method, methods);
  checkIndices(action, settings);
  return tidy(() => {
    const column = labelTensor(action, labels, given.values, given, settings);
    return new DenseTarget(given.kind, withLabels(action, method, given.values, given, column, 0, settings));
  });
}

/** Options of {@link ofaTarget}. */
export interface OfaOptions extends LabelOptions {
  /** γ > 0; above 1 the label weighs more. Default 1, which is the teacher itself. */
  gamma?: number;
}

/**
 * The enhanced target of one-for-all distillation, (p + e_y)^γ − e_y (Hao et al. 2023, arXiv 2310.19444), p the teacher at
 * temperature 1. It does not sum to 1: use it at temperature 1 with forward KL or soft cross-entropy, whose gradient is then
 * a·q − t with a = Σt. (At γ = 1 it is p.) Rows that are ignored or unlabelled are p.
 *
 * @param teacher a dense target, or a Tensor of logits [..., cols]
 * @param labels one for each row, in the forms {@link kdLoss} takes
 * @returns probabilities of any mass
 * @throws RangeError for γ that is not positive and finite, or a label outside [0, cols); TypeError where the teacher requires grad
 *
 * @example
 * kdLoss(exitLogits, ofaTarget(teacherLogits, labels, { gamma: 1.4 }), { divergence: 'soft_cross_entropy' });
 */
export function ofaTarget(teacher: DenseTarget | Tensor, labels: Labels, options?: OfaOptions): DenseTarget {
  const action = 'make an OFA target';
  const given = checkTeacher(action, 'teacher', teacher);
  const settings = checkOptions(action, options, ['gamma', ...labelNames]);
  const { gamma = 1 } = settings;
  checkPositive(action, 'gamma', gamma);
  return tidy(() => {
    const { probs, labels: column } = labelledProbs(action, given, labels, settings);
    // At 1 it is p itself, which a logarithm would round.
    const [name, parameter] = gamma === 1 ? (['mix', 0] as const) : (['enhance', gamma] as const);
    return new DenseTarget('probs', withLabels(action, name, probs, given, column, parameter, settings));
  });
}

/** Options of {@link mixWithLabels}. */
export interface MixWithLabelsOptions extends LabelOptions {
  /** α in [0, 1], the share of the label. */
  alpha: number;
}

/**
 * The teacher mixed with the truth, α·e_y + (1 − α)·p, p the teacher at temperature 1: the target of iterated
 * self-distillation (Borup & Andersen 2021, arXiv 2102.13088) and, with α falling to 0 or rising to 1, of teacher annealing
 * (Clark et al. 2019, arXiv 1907.04829). At temperature 1 the gradient of forward KL is q − t. Rows that are ignored or
 * unlabelled are p itself. {@link kdLoss} at another temperature softens the mixture as a whole.
 *
 * @param teacher a dense target, or a Tensor of logits [..., cols]
 * @param labels one for each row, in the forms {@link kdLoss} takes
 * @throws RangeError for α outside [0, 1] or a label outside [0, cols); TypeError where the teacher requires grad
 *
 * @example
 * kdLoss(student, mixWithLabels(previousGeneration, labels, { alpha: 0.35 }));
 */
export function mixWithLabels(teacher: DenseTarget | Tensor, labels: Labels, options: MixWithLabelsOptions): DenseTarget {
  const action = 'mix a target with labels';
  const given = checkTeacher(action, 'teacher', teacher);
  const settings = checkOptions(action, options, ['alpha', ...labelNames]);
  const alpha = checkFraction(action, 'alpha', settings.alpha);
  return tidy(() => {
    const { probs, labels: column } = labelledProbs(action, given, labels, settings);
    return new DenseTarget('probs', withLabels(action, 'mix', probs, given, column, alpha, settings));
  });
}

/** Options of {@link virtualTeacher}. */
export interface VirtualTeacherOptions extends LabelOptions {
  /** Classes, at least 2. */
  cols: number;
  /** The label's probability, in (1/cols, 1]. Default 0.99. */
  correctProb?: number;
  /** Default: that of a label tensor, otherwise the one of {@link setDevice}. */
  device?: Device;
}

/**
 * The virtual teacher of Tf-KD (Yuan et al. 2020, arXiv 1909.11723): probability a = `correctProb` for the label and
 * (1 − a)/(cols − 1) for every other class. At a temperature above 1 {@link kdLoss} softens it by 'power', as the paper does
 * (its published settings: a = 0.99 at 20). Rows that are ignored or unlabelled are uniform.
 *
 * @param labels one for each row: an int32 Tensor, Int32Array, BigInt64Array or numbers
 * @returns probabilities [rows, cols]
 * @throws RangeError for a label outside [0, cols), or a correctProb that does not favour the label
 *
 * @example
 * kdLoss(student, virtualTeacher(labels, { cols: 100 }), { temperature: 20, labels, hardWeight: 0.1 });
 */
export function virtualTeacher(labels: Labels, options: VirtualTeacherOptions): DenseTarget {
  const action = 'make a virtual teacher';
  const settings = checkOptions(action, options, ['cols', 'correctProb', 'device', ...labelNames]);
  const { correctProb = 0.99, device } = settings;
  const cols = checkWhole(action, 'cols', settings.cols, 2, 2 ** 31 - 1);
  if (!(checkFinite(action, 'correctProb', correctProb) > 1 / cols && correctProb <= 1))
    throw valueError(action, `correctProb must be in (1/${cols}, 1]`, correctProb);
  checkIndices(action, settings);
  if (labels instanceof Tensor && device !== undefined && parseDevice(action, device) !== ordinalOf(labels, action))
    throw valueError(action, `device must be ${labels.device} like the labels`, device);
  return tidy(() => {
    const rows = rowCount(labels);
    const shape = { rows, cols, leading: [rows] };
    const ordinal = labels instanceof Tensor ? ordinalOf(labels, action) : parseDevice(action, device);
    const one = fromArray(Float32Array.of(1 / cols), 'float32', [1], ordinal, action);
    const uniform = uniformLike(one, Math.fround(1 / cols), action, [rows, cols]);
    const column = labelTensor(action, labels, uniform, shape, settings);
    // α + (1 − α)/V = a and (1 − α)/V = (1 − a)/(V − 1).
    const alpha = 1 - ((1 - correctProb) * cols) / (cols - 1);
    return new DenseTarget('probs', withLabels(action, 'mix', uniform, shape, column, alpha, settings));
  });
}

/** How many labels there are, whatever else is wrong with them. */
function rowCount(labels: unknown): number {
  if (labels instanceof Tensor) return labels.size;
  if (Array.isArray(labels)) return (labels as unknown[]).flat(32).length;
  return labels instanceof Int32Array || labels instanceof BigInt64Array ? labels.length : 1;
}
