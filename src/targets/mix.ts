// Mixtures of several teachers: arithmetic, geometric, and of sparse targets.
import { tidy } from '../autograd.js';
import { checkConstant, checkDType, checkLive, checkNumber, checkOneOf, checkOptions, checkSameDevice } from '../check.js';
import { kindError, phrase, valueError } from '../errors.js';
import { checkPerRow } from '../losses/labels.js';
import { applyBinary } from '../ops/binary.js';
import { checkTemperature } from '../ops/temperature.js';
import { applyUnary } from '../ops/unary.js';
import { fromArray, hostCopy, ordinalOf, Tensor, view } from '../tensor.js';
import { DenseTarget, SparseTarget } from './target.js';
import { checkAlike, checkTeacher, logProbabilitiesOf, timesRows } from './teacher.js';

/** One teacher of {@link mixTargets}. */
export interface MixturePart<T = DenseTarget | SparseTarget | Tensor> {
  /** A dense target, a Tensor of logits, or a sparse target. */
  target: T;
  /** At least 0: a number, or a float32 Tensor with one for each row. */
  weight: number | Tensor;
}

const kinds = ['arithmetic', 'geometric'] as const;

/** Options of {@link mixTargets}. */
export interface MixOptions {
  /** Default 'arithmetic'. */
  kind?: (typeof kinds)[number];
  /** Arithmetic mixtures of dense targets: the temperature of the probabilities that are mixed. Default 1. */
  temperature?: number | Tensor;
}

/** What the weights of all targets may be off 1. */
const tolerance = 1e-6;

/**
 * The mixture of several teachers. Weights α are at least 0 and sum to 1 within 1e-6, over the batch or in each row (they are
 * read, which on a device waits for it). A target whose weight is the number 0 is not read.
 *
 * - `'arithmetic'`, p = Σ α_m p_m: forward KL to it has the gradient Σ α_m ∂KL(p_m‖q)/∂z. The p_m are taken at `temperature`
 *   (logits divided by it, probabilities and log-probabilities raised to 1/T). At 1 the result is a target of
 *   log-probabilities. At another T it is one of logits T·ln p, which {@link kdLoss} with that same temperature turns back into p;
 *   it is meant for that temperature only. (A mixture made at 1 that kdLoss softens is another target: (Σ α_m p_m)^{1/T}.)
 *   It is added up as logarithms, so that no small probability is lost, and none becomes infinite to reverse KL.
 * - `'geometric'`, p ∝ Π p_m^{α_m} = softmax(Σ α_m ln p_m): a target of logits, and the geometric mixture at every temperature. An
 *   outcome that one teacher with a weight excludes is excluded; a row that is left without any has a loss of NaN.
 * - Sparse targets of weights (sampled): the mixture has every id of any of them, weights of the same id added up, and stays unbiased.
 *   Sparse targets of probabilities: exact where all name the same ids in a row, tails mixed too, and an error where they do
 *   not. They carry the one temperature they were taken at. Both are put together on the host.
 *
 * Every column counts: a padded vocabulary must be −∞ (probability 0) beyond its columns.
 *
 * Ensembles: Hinton et al. 2015 (arXiv 1503.02531).
 *
 * @throws TypeError for targets of different kinds or that require grad; RangeError for weights, shapes, or ids that differ
 *
 * @example
 * const target = mixTargets([{ target: first, weight: 0.7 }, { target: second, weight: 0.3 }], { temperature: 2 });
 * kdLoss(student, target, { temperature: 2 });
 */
export function mixTargets(parts: readonly MixturePart<DenseTarget | Tensor>[], options?: MixOptions): DenseTarget;
export function mixTargets(parts: readonly MixturePart<SparseTarget>[], options?: MixOptions): SparseTarget;
export function mixTargets(parts: readonly MixturePart[], options?: MixOptions): DenseTarget | SparseTarget;
export function mixTargets(parts: readonly MixturePart[], options?: MixOptions): DenseTarget | SparseTarget {
  const action = 'mix targets';
  if (!Array.isArray(parts)) throw kindError(action, 'parts must be an array of { target, weight }', parts);
  if (parts.length === 0) throw valueError(action, 'parts must hold at least one target', phrase('there is none'));
  const { kind = 'arithmetic', temperature } = checkOptions(action, options, ['kind', 'temperature']);
  checkOneOf(action, 'kind', kind, kinds);
  const given = parts.map((part: MixturePart | undefined, i) => {
    if (part === undefined) throw kindError(action, `parts[${i}] must be { target, weight }`, part);
    return checkOptions(action, part, ['target', 'weight']);
  });
  if (!given.some(({ target }) => target instanceof SparseTarget)) return tidy(() => mixDense(action, given, kind, temperature));
  const sparse = given.map(({ target, weight }, i) => {
    if (!(target instanceof SparseTarget)) throw kindError(action, `parts[${i}].target must be sparse like the others`, target);
    return { target, weight };
  });
  if (kind === 'geometric')
    throw valueError(action, "kind must be 'arithmetic' with sparse targets, whose other probabilities are unknown", kind);
  if (temperature !== undefined)
    throw kindError(action, 'temperature must not be given with sparse targets, which carry their own', temperature);
  return mixSparse(action, sparse);
}

/** Weights that are at least 0 and sum to 1, over all or in each row. */
function checkWeights(
  action: string,
  weights: readonly unknown[],
  rows: number,
  leading: readonly number[],
  like: Tensor,
): (number | Tensor)[] {
  const sums = new Float64Array(weights.some((weight) => weight instanceof Tensor) ? rows : 1);
  const checked = weights.map((weight, i) => {
    const name = `parts[${i}].weight`;
    const atLeast = `${name} must be at least 0 and finite`;
    if (!(weight instanceof Tensor)) {
      if (typeof weight !== 'number') throw kindError(action, `${name} must be a number or a Tensor with one for each row`, weight);
      if (!(checkNumber(action, name, weight) >= 0 && weight < Infinity)) throw valueError(action, atLeast, weight);
      for (let r = 0; r < sums.length; r++) sums[r]! += weight;
      return weight;
    }
    checkLive(action, name, weight);
    checkConstant(action, name, weight);
    checkDType(action, name, weight, 'float32');
    checkSameDevice(action, name, weight, 'the targets', like);
    checkPerRow(action, name, weight.shape, rows, leading);
    hostCopy(weight, action).forEach((value: number, r: number) => {
      if (!(value >= 0 && value < Infinity)) throw valueError(action, atLeast, phrase(`it is ${value} in row ${r}`));
      sums[r]! += value;
    });
    return weight;
  });
  const isPerRow = checked.some((weight) => weight instanceof Tensor);
  sums.forEach((total, r) => {
    if (!(Math.abs(total - 1) <= tolerance))
      throw valueError(action, 'the weights must sum to 1 within 1e-6', phrase(`they sum to ${total}${isPerRow ? ` in row ${r}` : ''}`));
  });
  return checked;
}

function mixDense(
  action: string,
  parts: readonly MixturePart[],
  kind: 'arithmetic' | 'geometric',
  given: number | Tensor | undefined,
): DenseTarget {
  if (kind === 'geometric' && given !== undefined)
    throw kindError(action, "temperature must not be given with kind 'geometric', which holds at every one", given);
  const teachers = parts.map(({ target }, i) => checkTeacher(action, `parts[${i}].target`, target));
  const first = teachers[0]!;
  teachers.forEach((teacher, i) => checkAlike(action, `parts[${i}].target`, teacher, 'parts[0].target', first));
  const { rows, cols, leading, values } = first;
  const weights = checkWeights(
    action,
    parts.map(({ weight }) => weight),
    rows,
    leading,
    values,
  );
  const { temperature, rowTemperature } = checkTemperature(action, given === undefined ? 1 : given, rows, leading, values);
  const isGeometric = kind === 'geometric';
  let total: Tensor | null = null;
  for (const [i, teacher] of teachers.entries()) {
    const weight = weights[i]!;
    if (weight === 0) continue;
    const term = logProbabilitiesOf(action, teacher, isGeometric ? 1 : (rowTemperature ?? temperature));
    if (isGeometric) timesRows(action, term, weight, rows, cols);
    else addLogWeight(action, term, weight, rows, cols);
    if (total === null) total = term;
    else {
      const plan = { rows: 1, cols: total.size, how: 'same' } as const;
      applyBinary(action, isGeometric ? 'add' : 'log_add_exp', total, term, plan, total);
      term.dispose();
    }
  }
  // The weights sum to 1, so one of them is above 0.
  const mixture = total!;
  if (isGeometric) return new DenseTarget('logits', mixture);
  if (rowTemperature === null && temperature === 1) return new DenseTarget('log_probs', mixture);
  timesRows(action, mixture, rowTemperature ?? temperature, rows, cols);
  return new DenseTarget('logits', mixture);
}

/** x + ln α in place; −∞ where α is 0, whatever stood there. */
function addLogWeight(action: string, x: Tensor, weight: number | Tensor, rows: number, cols: number): void {
  if (typeof weight === 'number') {
    if (weight !== 1) applyUnary(action, 'add_scalar', x, Math.log(weight), x);
    return;
  }
  const values = Float64Array.from(hostCopy(weight, action));
  const column = (f: (value: number) => number): Tensor => {
    const numbers = values.map(f);
    return fromArray(x.dtype === 'float64' ? numbers : Float32Array.from(numbers), x.dtype, [rows, 1], ordinalOf(x, action), action);
  };
  const plan = { rows, cols, how: 'column' } as const;
  if (values.includes(0)) applyBinary(action, 'mul0', x, column(Math.sign), plan, x);
  applyBinary(action, 'add', x, column(Math.log), plan, x);
}

interface SparsePart {
  target: SparseTarget;
  weight: number | Tensor;
}

function mixSparse(action: string, parts: readonly SparsePart[]): SparseTarget {
  const first = parts[0]!.target;
  const rows = first.indices.shape[0]!;
  const isWeights = first.weights !== null;
  let cols = first.cols;
  parts.forEach(({ target }, i) => {
    const name = `parts[${i}].target`;
    checkLive(action, name, target.indices);
    checkSameDevice(action, name, target.indices, 'parts[0].target', first.indices);
    checkConstant(action, name, (target.weights ?? target.logProbs)!);
    if ((target.weights !== null) !== isWeights)
      throw kindError(
        action,
        `${name} must be of ${isWeights ? 'weights' : 'probabilities'} like parts[0].target`,
        phrase(`it is of ${isWeights ? 'probabilities' : 'weights'}`),
      );
    if (target.indices.shape[0] !== rows)
      throw valueError(action, `${name} must have ${rows} rows like parts[0].target`, phrase(`it has ${target.indices.shape[0]}`));
    if (cols !== null && target.cols !== null && target.cols !== cols)
      throw valueError(action, `${name} must be of ${cols} columns like the others`, phrase(`it is of ${target.cols}`));
    cols ??= target.cols;
    checkSameTemperature(action, name, target.temperature, first.temperature);
  });
  const like = first.indices;
  const weights = checkWeights(
    action,
    parts.map(({ weight }) => weight),
    rows,
    [rows],
    like,
  );
  const { temperature } = first;
  const shared = { temperature: typeof temperature === 'number' ? temperature : view(temperature), cols };
  const read = parts.flatMap(({ target }, i): HostPart[] => {
    const weight = weights[i]!;
    if (weight === 0) return [];
    return [
      {
        name: `parts[${i}].target`,
        k: target.k,
        ids: hostCopy(target.indices, action),
        values: hostCopy((target.weights ?? target.logProbs)!, action),
        tail: target.tailLogMass === null ? null : hostCopy(target.tailLogMass, action),
        weight: typeof weight === 'number' ? weight : hostCopy(weight, action),
      },
    ];
  });
  const ordinal = ordinalOf(like, action);
  if (isWeights) {
    const { ids, values, k } = addedWeights(read, rows);
    return new SparseTarget({
      indices: fromArray(ids, 'int32', [rows, k], ordinal, action),
      weights: fromArray(values, 'float32', [rows, k], ordinal, action),
      logProbs: null,
      tailLogMass: null,
      ...shared,
    });
  }
  const { ids, values, tail, k } = mixedLogs(action, read, rows);
  return new SparseTarget({
    indices: fromArray(ids, 'int32', [rows, k], ordinal, action),
    logProbs: fromArray(values, 'float32', [rows, k], ordinal, action),
    weights: null,
    tailLogMass: fromArray(tail, 'float32', [rows], ordinal, action),
    ...shared,
  });
}

/** A sparse target on the host. */
interface HostPart {
  name: string;
  k: number;
  ids: ArrayLike<number>;
  values: ArrayLike<number>;
  tail: ArrayLike<number> | null;
  weight: number | ArrayLike<number>;
}

const weightOf = ({ weight }: HostPart, row: number): number => (typeof weight === 'number' ? weight : weight[row]!);

function checkSameTemperature(action: string, name: string, temperature: number | Tensor, wanted: number | Tensor): void {
  const own = typeof temperature === 'number' ? null : hostCopy(temperature, action);
  const other = typeof wanted === 'number' ? null : hostCopy(wanted, action);
  const rows = own?.length ?? other?.length ?? 1;
  for (let r = 0; r < rows; r++) {
    const [T, first] = [own === null ? (temperature as number) : own[r]!, other === null ? (wanted as number) : other[r]!];
    if (Math.fround(T) !== Math.fround(first))
      throw valueError(
        action,
        `${name} must have been taken at temperature ${first} like parts[0].target`,
        phrase(`it was at ${T}${own === null && other === null ? '' : ` in row ${r}`}`),
      );
  }
}

/** Every id of any part once, ascending, its weights added up in float64; rows are filled with empty slots to equal length. */
function addedWeights(parts: readonly HostPart[], rows: number): { ids: Int32Array; values: Float32Array; k: number } {
  const found = Array.from({ length: rows }, (_, r) => {
    const sums = new Map<number, number>();
    for (const part of parts) {
      const weight = weightOf(part, r);
      if (weight === 0) continue;
      for (let j = r * part.k; j < (r + 1) * part.k; j++) {
        const id = part.ids[j]!;
        if (id !== -1) sums.set(id, (sums.get(id) ?? 0) + weight * part.values[j]!);
      }
    }
    return [...sums].sort(([a], [b]) => a - b);
  });
  const k = found.reduce((most, row) => Math.max(most, row.length), 1);
  const ids = new Int32Array(rows * k).fill(-1);
  const values = new Float32Array(rows * k);
  found.forEach((row, r) =>
    row.forEach(([id, weight], j) => {
      ids[r * k + j] = id;
      values[r * k + j] = weight;
    }),
  );
  return { ids, values, k };
}

/** ln Σ α p of each id and of the tail, in float64. All parts name the ids of the first, in any order. */
function mixedLogs(
  action: string,
  parts: readonly HostPart[],
  rows: number,
): { ids: Int32Array; values: Float32Array; tail: Float32Array; k: number } {
  const first = parts[0]!;
  const { k } = first;
  const ids = Int32Array.from(first.ids);
  const values = new Float32Array(rows * k);
  const tail = new Float32Array(rows);
  for (let r = 0; r < rows; r++) {
    const logs = parts.map((part) => {
      const own = new Map<number, number>();
      for (let j = r * part.k; j < (r + 1) * part.k; j++) if (part.ids[j] !== -1) own.set(part.ids[j]!, part.values[j]!);
      return own;
    });
    for (let i = 1; i < parts.length; i++) {
      checkNamed(action, r, parts[i]!.name, logs[i]!, first.name, logs[0]!);
      checkNamed(action, r, first.name, logs[0]!, parts[i]!.name, logs[i]!);
    }
    const mixed = (of: (i: number) => number): number => {
      const terms = parts.map((part, i) => (weightOf(part, r) === 0 ? -Infinity : Math.log(weightOf(part, r)) + of(i)));
      const most = Math.max(...terms);
      return Number.isFinite(most) ? most + Math.log(terms.reduce((sum, term) => sum + Math.exp(term - most), 0)) : most;
    };
    for (let j = r * k; j < (r + 1) * k; j++) if (ids[j] !== -1) values[j] = mixed((i) => logs[i]!.get(ids[j]!)!);
    tail[r] = mixed((i) => parts[i]!.tail![r]!);
  }
  return { ids, values, tail, k };
}

function checkNamed(
  action: string,
  row: number,
  name: string,
  own: Map<number, number>,
  otherName: string,
  other: Map<number, number>,
): void {
  for (const id of own.keys())
    if (!other.has(id))
      throw valueError(
        action,
        'sparse targets of probabilities must name the same ids in each row, for the others are unknown',
        phrase(`id ${id} of row ${row} is in ${name} and not in ${otherName}`),
      );
}
