// What the teacher says about each row: dense targets, and sparse ones of k entries.
import {
  checkConstant,
  checkDType,
  checkFloating,
  checkOptions,
  checkPositive,
  checkRows,
  checkSameDevice,
  checkTensor,
  checkWhole,
  sameShape,
} from '../check.js';
import { keep } from '../autograd.js';
import { kindError, phrase, shapeText, valueError } from '../errors.js';
import { gatherRows, type RowIndices } from '../ops/gather_rows.js';
import { applyReduce } from '../ops/reduce.js';
import { checkTemperature } from '../ops/temperature.js';
import { applyUnary } from '../ops/unary.js';
import type { Device } from '../device.js';
import { isHalf } from '../dtypes.js';
import { fromArray, hostCopy, ordinalOf, stateOf, Tensor, tensor, view, type NestedNumbers } from '../tensor.js';

/** What the numbers of a dense target are. */
export type DenseKind = 'logits' | 'probs' | 'log_probs';

/** A teacher's whole rows. Made by {@link denseTarget}. */
export class DenseTarget {
  /** Row masses as of the first look, by number of columns. */
  readonly #masses = new Map<number, ArrayLike<number>>();

  /** @internal */
  constructor(
    readonly kind: DenseKind,
    /** [..., cols] */
    readonly values: Tensor,
  ) {
    if (!(values instanceof Tensor))
      throw kindError('construct a DenseTarget', 'denseTarget(...) must be used', phrase('new DenseTarget was'));
  }

  /** The target of a mini-batch: the rows asked for, in that order. */
  rows(indices: RowIndices): DenseTarget {
    const { rows, cols } = checkRows('select rows of a target', 'values', this.values);
    const flat = view(this.values, [rows, cols]);
    const chosen = gatherRows(flat, indices);
    flat.dispose();
    return new DenseTarget(this.kind, chosen);
  }

  /** The same target on a device. */
  to(device: Device): DenseTarget {
    return new DenseTarget(this.kind, this.values.to(device));
  }

  dispose(): void {
    this.values.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** @internal Σp of each row over its first `cols` columns, looked at once. */
  masses(cols: number): ArrayLike<number> {
    let masses = this.#masses.get(cols);
    if (masses === undefined) {
      const action = 'check a target';
      const { kind } = this;
      const values = isHalf(this.values.dtype) ? this.values.cast('float32') : view(this.values);
      const width = values.shape[values.shape.length - 1]!;
      const rows = values.size / width;
      if (cols === width) {
        const probs = kind === 'probs' ? view(values) : applyUnary(action, 'exp', values);
        const sums = applyReduce(action, 'sum', probs, rows, cols, 1, [rows]);
        masses = hostCopy(sums, action).slice();
        probs.dispose();
        sums.dispose();
      } else {
        masses = rowMasses(hostCopy(values, action), kind, rows, cols, width);
      }
      values.dispose();
      this.#masses.set(cols, masses);
    }
    return masses;
  }
}

/** Σp of each row, in float64. */
export function rowMasses(values: ArrayLike<number>, kind: DenseKind, rows: number, cols: number, stride: number): Float64Array {
  const masses = new Float64Array(rows);
  for (let r = 0; r < rows; r++) {
    let mass = 0;
    const start = r * stride;
    if (kind === 'probs') for (let c = 0; c < cols; c++) mass += values[start + c]!;
    else for (let c = 0; c < cols; c++) mass += Math.exp(values[start + c]!);
    masses[r] = mass;
  }
  return masses;
}

/**
 * A dense target from logits, probabilities or log-probabilities [..., cols], float32, float16, bfloat16, or float64 on the CPU. Probabilities at temperature 1 are used as
 * given, with their mass; at another one they are softened by 'power' and must sum to 1 within 1e-3.
 *
 * @throws TypeError unless exactly one of the three is given, or where it requires grad
 */
export function denseTarget(from: { logits: Tensor } | { probs: Tensor } | { logProbs: Tensor }): DenseTarget {
  const action = 'make a dense target';
  const given = checkOptions(action, from as { logits?: Tensor; probs?: Tensor; logProbs?: Tensor }, ['logits', 'probs', 'logProbs']);
  const [name, kind] = oneOf(action, given, { logits: 'logits', probs: 'probs', logProbs: 'log_probs' } as const);
  const values = checkFloating(action, name, given[name]);
  checkConstant(action, name, values);
  checkRows(action, name, values, 1);
  return new DenseTarget(kind, view(values));
}

function oneOf<N extends string, K extends string>(action: string, given: object, kinds: Record<N, K>): [N, K] {
  const names = Object.keys(kinds) as N[];
  const found = names.filter((name) => (given as Record<string, unknown>)[name] !== undefined);
  if (found.length !== 1)
    throw kindError(
      action,
      `exactly one of ${names.join(', ')} must be given`,
      phrase(found.length === 0 ? 'there is none' : `there are ${found.join(' and ')}`),
    );
  return [found[0]!, kinds[found[0]!]];
}

/** k entries for each row, and what is known of the rest. Made by {@link captureTopK} or {@link sparseTarget}. */
export class SparseTarget {
  /** int32 [rows, k]; −1 is an empty slot. */
  readonly indices: Tensor;
  /** float32 [rows, k], at `temperature`; null for a target of weights. */
  readonly logProbs: Tensor | null;
  /** float32 [rows, k]; null for a target of probabilities. */
  readonly weights: Tensor | null;
  /** The temperature the probabilities were taken at: a number, or float32 [rows]. */
  readonly temperature: number | Tensor;
  /** Columns of the rows the target was taken from, or null where nobody said. */
  readonly cols: number | null;
  /** Entries of each row. */
  readonly k: number;
  /** @internal */
  readonly givenTail: Tensor | null;
  #computedTail: Tensor | null = null;

  /** @internal */
  constructor(parts: Pick<SparseTarget, 'indices' | 'logProbs' | 'weights' | 'temperature' | 'cols'> & { tailLogMass: Tensor | null }) {
    if (!(parts?.indices instanceof Tensor))
      throw kindError('construct a SparseTarget', 'sparseTarget(...) must be used', phrase('new SparseTarget was'));
    this.indices = parts.indices;
    this.logProbs = parts.logProbs;
    this.weights = parts.weights;
    this.givenTail = parts.tailLogMass;
    this.temperature = parts.temperature;
    this.cols = parts.cols;
    this.k = parts.indices.shape[1]!;
  }

  /**
   * Log of the mass outside the k entries, float32 [rows]; −∞ where there is none. Where it was not given it is
   * ln(−expm1(lse(logProbs))); null for a target of weights.
   *
   * @throws RangeError where a row's probabilities sum to more than 1 + 1e-3
   */
  get tailLogMass(): Tensor | null {
    if (this.givenTail !== null || this.logProbs === null) return this.givenTail;
    return (this.#computedTail ??= keep(missingTail(this.indices, this.logProbs)));
  }

  /** The target of a mini-batch: the rows asked for, in that order. */
  rows(indices: RowIndices): SparseTarget {
    const pick = (from: Tensor | null): Tensor | null => (from === null ? null : gatherRows(from, indices));
    const { temperature } = this;
    return new SparseTarget({
      indices: gatherRows(this.indices, indices),
      logProbs: pick(this.logProbs),
      weights: pick(this.weights),
      tailLogMass: pick(this.givenTail),
      temperature: typeof temperature === 'number' ? temperature : gatherRows(temperature, indices),
      cols: this.cols,
    });
  }

  /** The same target on a device. */
  to(device: Device): SparseTarget {
    const move = (from: Tensor | null): Tensor | null => from?.to(device) ?? null;
    const { temperature } = this;
    return new SparseTarget({
      indices: this.indices.to(device),
      logProbs: move(this.logProbs),
      weights: move(this.weights),
      tailLogMass: move(this.givenTail),
      temperature: typeof temperature === 'number' ? temperature : temperature.to(device),
      cols: this.cols,
    });
  }

  dispose(): void {
    for (const each of [this.indices, this.logProbs, this.weights, this.givenTail, this.#computedTail, this.temperature]) {
      if (each instanceof Tensor) each.dispose();
    }
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function missingTail(indices: Tensor, logProbs: Tensor): Tensor {
  const action = 'find the tail of a sparse target';
  const [rows, k] = indices.shape as [number, number];
  const ids = hostCopy(indices, action);
  const logs = hostCopy(logProbs, action);
  const tail = new Float32Array(rows);
  for (let r = 0; r < rows; r++) {
    let mass = 0;
    for (let j = r * k; j < (r + 1) * k; j++) if (ids[j] !== -1) mass += Math.exp(logs[j]!);
    if (mass > 1 + 1e-3)
      throw valueError(action, 'the probabilities of a row must sum to at most 1', phrase(`they sum to ${mass} in row ${r}`));
    tail[r] = mass > 1 ? -Infinity : Math.log1p(-mass);
  }
  return fromArray(tail, 'float32', [rows], ordinalOf(indices, action), action);
}

/** What {@link sparseTarget} takes: tensors, typed arrays or nested numbers. */
export interface SparseTargetParts {
  /** int32 [rows, k] column numbers, −1 for an empty slot. */
  indices: Tensor | Int32Array | NestedNumbers;
  /** [rows, k] probabilities. */
  probs?: Tensor | Float32Array | NestedNumbers;
  /** [rows, k] log-probabilities. */
  logProbs?: Tensor | Float32Array | NestedNumbers;
  /** [rows, k] weights of sampled entries. */
  weights?: Tensor | Float32Array | NestedNumbers;
  /** [rows] log of the mass outside the k entries; left out, it is what is missing to 1. */
  tailLogMass?: Tensor | Float32Array | NestedNumbers;
  /** What the probabilities were taken at. Default 1. */
  temperature?: number | Tensor;
  /** Columns of the whole rows, to check against the student. */
  cols?: number;
}

const partNames = ['indices', 'probs', 'logProbs', 'weights', 'tailLogMass', 'temperature', 'cols'] as const;

/**
 * A sparse target from parts: what an API teacher gives, or a file of one's own.
 *
 * @throws TypeError unless exactly one of probs, logProbs and weights is given; RangeError where shapes do not meet
 *
 * @example
 * sparseTarget({ indices: [[4, 7]], logProbs: [[-0.1, -3]], cols: 10 });
 */
export function sparseTarget(parts: SparseTargetParts): SparseTarget {
  const action = 'make a sparse target';
  if (parts === undefined) throw kindError(action, 'parts must be an object', parts);
  const given = checkOptions(action, parts, partNames);
  const [name] = oneOf(action, given, { probs: 'probs', logProbs: 'logProbs', weights: 'weights' } as const);
  if (given.indices === undefined) throw kindError(action, 'indices must be given', given.indices);
  if (given.cols !== undefined) checkWhole(action, 'cols', given.cols, 1, 2 ** 31 - 1);
  const indices = flat(action, 'indices', given.indices, 'int32', null);
  const rows = indices.shape[0]!;
  const values = flat(action, name, given[name], 'float32', indices);
  if (!sameShape(values.shape, indices.shape)) {
    throw valueError(
      action,
      `${name} must have the shape of the indices ${shapeText(indices.shape)}`,
      phrase(`it has ${shapeText(values.shape)}`),
    );
  }
  let tail: Tensor | null = null;
  if (given.tailLogMass !== undefined) {
    if (name === 'weights') throw kindError(action, 'tailLogMass must not be given with weights', phrase('it is'));
    const column = part(action, 'tailLogMass', given.tailLogMass, 'float32', indices);
    if (column.size !== rows)
      throw valueError(action, `tailLogMass must have shape [${rows}], one for each row`, phrase(`it has ${shapeText(column.shape)}`));
    tail = view(checkTail(action, column), [rows]);
  }
  const { temperature = 1 } = given;
  if (typeof temperature === 'number') checkPositive(action, 'temperature', temperature);
  else checkTemperature(action, temperature, rows, [rows], indices);
  return new SparseTarget({
    indices,
    logProbs: name === 'weights' ? null : name === 'probs' ? logarithms(action, values, indices) : values,
    weights: name === 'weights' ? checkWeights(action, values) : null,
    tailLogMass: tail,
    temperature: typeof temperature === 'number' ? temperature : view(temperature, [rows]),
    cols: given.cols ?? null,
  });
}

/** A part as a tensor of its own dtype on the device of the indices. */
/** A number for int32 loses what is behind its point: 0.7 would be column 0. */
function checkWholeNumbers(action: string, name: string, value: unknown): void {
  if (Array.isArray(value)) for (const each of value as unknown[]) checkWholeNumbers(action, name, each);
  else if (typeof value === 'number' && Number.isFinite(value) && !Number.isInteger(value))
    throw valueError(action, `${name} must be whole numbers`, phrase(`one is ${value}`));
}

function part(action: string, name: string, value: unknown, dtype: 'int32' | 'float32', like: Tensor | null): Tensor {
  if (!(value instanceof Tensor)) {
    if (ArrayBuffer.isView(value) && !(dtype === 'int32' ? value instanceof Int32Array : value instanceof Float32Array)) {
      throw kindError(action, `${name} must be ${dtype}`, value);
    }
    if (dtype === 'int32') checkWholeNumbers(action, name, value);
    return tensor(value as NestedNumbers, { dtype, device: like?.device });
  }
  checkTensor(action, name, value);
  checkDType(action, name, value, dtype);
  checkConstant(action, name, value);
  if (like !== null) checkSameDevice(action, name, value, 'the indices', like);
  return value;
}

function flat(action: string, name: string, value: unknown, dtype: 'int32' | 'float32', like: Tensor | null): Tensor {
  const whole = part(action, name, value, dtype, like);
  const { rows, cols } = checkRows(action, name, whole);
  return view(whole, [rows, cols]);
}

function logarithms(action: string, probs: Tensor, indices: Tensor): Tensor {
  const values = hostCopy(probs, action);
  const ids = hostCopy(indices, action);
  const logs = new Float32Array(values.length);
  for (let i = 0; i < logs.length; i++) {
    if (ids[i] !== -1 && values[i]! < 0) throw valueError(action, 'probs must not be negative', phrase(`entry ${i} is ${values[i]}`));
    logs[i] = Math.log(values[i]!);
  }
  return fromArray(logs, 'float32', probs.shape, ordinalOf(probs, action), action);
}

/** Nothing holds more than all there is, give or take what a row may sum to. */
function checkTail(action: string, tail: Tensor): Tensor {
  const { array } = stateOf(tail).storage!;
  const wrong = array?.findIndex((mass) => mass > Math.log1p(1e-3)) ?? -1;
  if (wrong >= 0) throw valueError(action, 'tailLogMass must be the logarithm of at most 1', phrase(`entry ${wrong} is ${array![wrong]}`));
  return tail;
}

function checkWeights(action: string, weights: Tensor): Tensor {
  const { array } = stateOf(weights).storage!;
  const wrong = array?.findIndex((weight) => weight < 0) ?? -1;
  if (wrong >= 0) throw valueError(action, 'weights must not be negative', phrase(`entry ${wrong} is ${array![wrong]}`));
  return weights;
}
