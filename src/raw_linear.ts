// linearKdLoss of limbeck/raw: plain arrays and descriptors become tensors on the same memory, and gradients are written where `out` says.
import { copyInto } from './arithmetic.js';
import { tidy } from './autograd.js';
import { checkOptions, checkWhole } from './check.js';
import { bytesPerElement, computedIn, type DType, type HalfType, type TypedArray } from './dtypes.js';
import { borrowed, isDLPack, type DLPack } from './dlpack.js';
import { kindError, phrase, shapeText, valueError } from './errors.js';
import type { LabelNumbers } from './losses/labels.js';
import type { LinearKdLossOptions, LinearTeacher } from './losses/linear_call.js';
import { linearKdLossInto } from './losses/linear_kd_loss.js';
import type { KdTarget } from './losses/kd_loss.js';
import { rowLossNames, softNames, type RowLossOptions, type SoftOptions } from './losses/settings.js';
import { attempt } from './native.js';
import { checkArray, checkStored, reach, sizes, typeOf, type Floats, type Stored } from './raw_loss.js';
import type { DLPackTeacher } from './raw_calls.js';
import { denseTarget, sparseTarget } from './targets/target.js';
import { fromArray, handleOf, hostCopy, view, type Tensor } from './tensor.js';

/** A teacher by its last layer, on typed arrays or descriptors; its inputs are what `weight` holds for each column. */
export interface RawLinearTeacher {
  /** [rows · inputs of the teacher]. */
  hidden: Stored | DLPack;
  /** [cols · inputs of the teacher], nothing behind it. */
  weight: Stored | DLPack;
  /** [cols]. */
  bias?: Stored | DLPack;
}

/** Where `linearKdLoss` of limbeck/raw writes; what is left out is not computed, but for the loss. */
export interface RawLinearOut {
  /** 'mean' and 'sum': at least one element. 'none': one for each row. Made where it is left out. */
  loss?: Floats | DLPack;
  /** [rows · inputs], of the type of hidden; may be the memory of hidden. */
  gradientHidden?: Stored | DLPack;
  /** [cols · inputs], of the type of weight. */
  gradientWeight?: Stored | DLPack;
  /** [cols], of the type of bias. */
  gradientBias?: Stored | DLPack;
}

/** Options of `linearKdLoss` of limbeck/raw. */
export interface RawLinearKdLossOptions extends RowLossOptions, SoftOptions {
  /** The sizes; descriptors of hidden and weight say them themselves. */
  rows?: number;
  cols?: number;
  inputs?: number;
  /** [cols], added to the student's logits. */
  bias?: Stored | DLPack;
  rowWeights?: Float32Array | DLPack;
  /** A positive number or one for each row. Default: 1, or what a sparse target says. */
  temperature?: number | Float32Array | DLPack;
  labels?: LabelNumbers | DLPack;
  /** Which half type Uint16Arrays hold: hidden, weight, bias and their gradients. */
  dtype?: HalfType;
  /** The same of the teacher's. Default: dtype. */
  teacherDtype?: HalfType;
  /** The most bytes that are made beside the results. Default 512 MB, and on the CPU chunks of at most 512 rows. */
  scratchBytes?: number;
  out?: RawLinearOut;
}

const optionNames = [
  ...rowLossNames,
  ...softNames,
  'rows',
  'cols',
  'inputs',
  'bias',
  'rowWeights',
  'temperature',
  'labels',
  'dtype',
  'teacherDtype',
  'scratchBytes',
  'out',
] as const;
const outNames = ['loss', 'gradientHidden', 'gradientWeight', 'gradientBias'] as const;
const action = 'compute raw.linearKdLoss';

type Like = Pick<Tensor, 'dtype' | 'device' | 'shape'>;

/** Makes tensors on the memory of one call's arguments, and remembers where they lie. */
class Memory {
  readonly #taken: { name: string; tensor: Tensor }[] = [];

  /** Numbers of a shape: an array that holds at least so many, or a descriptor of exactly so many. */
  take(name: string, value: unknown, shape: readonly number[], dtype: HalfType | undefined, dtypeName = 'dtype'): Tensor {
    if (isDLPack(value)) return this.#describe(name, value, shape);
    const stored = checkStored(action, name, value, dtype, dtypeName);
    const type: DType = stored instanceof Uint16Array ? dtype! : stored instanceof Float64Array ? 'float64' : 'float32';
    return this.#adopt(name, stored, type, shape);
  }

  /** int32 or float32 numbers that kernels read as such. */
  takeAs(name: string, value: unknown, type: 'int32' | 'float32', shape: readonly number[]): Tensor {
    if (isDLPack(value)) return this.#describe(name, value, shape);
    return this.#adopt(
      name,
      checkArray<Int32Array | Float32Array>(action, name, value, type === 'int32' ? Int32Array : Float32Array, 0),
      type,
      shape,
    );
  }

  /** What is written: of one dtype and device, and on no other memory of the call but that of `sharing`, from its first element on. */
  takeOut(name: string, value: unknown, like: Like, half: HalfType | undefined, sharing: Tensor | null = null): Tensor {
    const out = this.take(name, value, like.shape, half);
    if (out.dtype !== like.dtype || (isDLPack(value) && out.device !== like.device))
      throw kindError(action, `${name} must be ${like.dtype} on ${like.device}`, phrase(`it is ${out.dtype} on ${out.device}`));
    const [begin, end] = spanOf(out);
    for (const { name: other, tensor } of this.#taken) {
      if (tensor === out || tensor.device !== out.device) continue;
      const [from, to] = spanOf(tensor);
      if (from >= end || to <= begin || (tensor === sharing && from === begin)) continue;
      throw valueError(action, `${name} must not share memory with ${other}`, phrase('it does'));
    }
    return out;
  }

  #describe(name: string, value: DLPack, shape: readonly number[]): Tensor {
    const tensor = borrowed(action, name, value);
    if (
      tensor.size !== shape.reduce((a, b) => a * b, 1) ||
      (shape.length > 1 && tensor.shape[tensor.shape.length - 1] !== shape[shape.length - 1])
    )
      throw valueError(action, `${name} must have shape ${shapeText(shape)}`, phrase(`it has ${shapeText(tensor.shape)}`));
    return this.#remember(name, view(tensor, shape));
  }

  #adopt(name: string, array: TypedArray, type: DType, shape: readonly number[]): Tensor {
    const size = shape.reduce((a, b) => a * b, 1);
    checkArray(action, name, array, typeOf(array as Stored), size);
    return this.#remember(name, fromArray(array.subarray(0, size), type, shape, -1, action, false));
  }

  #remember(name: string, tensor: Tensor): Tensor {
    this.#taken.push({ name, tensor });
    return tensor;
  }
}

function spanOf(tensor: Tensor): [bigint, bigint] {
  if (tensor.size === 0) return [0n, 0n];
  const begin = attempt(action, (addon) => addon.address(handleOf(tensor, action)));
  return [begin, begin + BigInt(tensor.size * bytesPerElement(tensor.dtype))];
}

/** Sizes of hidden and weight: what the options say, or else their descriptors. */
function sizesOf(hidden: unknown, weight: unknown, options: RawLinearKdLossOptions): { rows: number; cols: number; inputs: number } {
  const last = (x: DLPack): number | undefined => x.shape[x.shape.length - 1];
  const { inputs = isDLPack(hidden) ? last(hidden) : undefined } = options;
  const { rows = isDLPack(hidden) ? hidden.shape.slice(0, -1).reduce((a, b) => a * b, 1) : undefined } = options;
  const { cols = isDLPack(weight) ? weight.shape[0] : undefined } = options;
  checkWhole(action, 'inputs', inputs, 0);
  sizes(action, { rows: rows!, cols: cols! });
  reach(action, 'cols', cols, rows!, cols!);
  return { rows: rows!, cols: cols!, inputs: inputs! };
}

function targetOf(
  memory: Memory,
  teacher: unknown,
  { rows, cols }: { rows: number; cols: number },
  dtype: HalfType | undefined,
  temperature: number | Tensor | undefined,
): KdTarget | LinearTeacher {
  const dense = (name: string, value: unknown): Tensor => memory.take(name, value, [rows, cols], dtype, 'teacherDtype');
  if (ArrayBuffer.isView(teacher) || isDLPack(teacher)) return dense('teacher', teacher);
  if (typeof teacher !== 'object' || teacher === null) throw kindError(action, 'teacher must be typed arrays or descriptors', teacher);
  if ('weight' in teacher) {
    const { hidden, weight, bias } = checkOptions(action, teacher as RawLinearTeacher, ['hidden', 'weight', 'bias']);
    const width = isDLPack(weight) ? (weight.shape[weight.shape.length - 1] ?? 0) : (weight as ArrayLike<number>).length / cols;
    if (!Number.isInteger(width))
      throw valueError(
        action,
        `teacher.weight must hold inputs for each of ${cols} columns`,
        phrase(`it holds ${(weight as ArrayLike<number>).length}`),
      );
    return {
      hidden: memory.take('teacher.hidden', hidden, [rows, width], dtype, 'teacherDtype'),
      weight: memory.take('teacher.weight', weight, [cols, width], dtype, 'teacherDtype'),
      ...(bias === undefined ? {} : { bias: memory.take('teacher.bias', bias, [cols], dtype, 'teacherDtype') }),
    };
  }
  if ('indices' in teacher) {
    const sparse = checkOptions(action, teacher as Record<string, unknown>, [
      'indices',
      'logProbs',
      'weights',
      'tailLogMass',
      'k',
      'temperature',
    ]);
    const { indices, k: given } = sparse;
    const count = isDLPack(indices)
      ? indices.shape.reduce((a, b) => a * b, 1)
      : checkArray(action, 'teacher.indices', indices, Int32Array, 0).length;
    const k = given ?? (rows === 0 ? 0 : count / rows);
    if (!Number.isInteger(k))
      throw valueError(action, `teacher.indices must hold k entries for each of ${rows} rows`, phrase(`it holds ${count}`));
    checkWhole(action, 'teacher.k', k, 0, cols);
    const entries = (name: 'logProbs' | 'weights'): object =>
      sparse[name] === undefined ? {} : { [name]: memory.takeAs(`teacher.${name}`, sparse[name], 'float32', [rows, k as number]) };
    return sparseTarget({
      indices: memory.takeAs('teacher.indices', indices, 'int32', [rows, k as number]),
      ...entries('logProbs'),
      ...entries('weights'),
      ...(sparse['tailLogMass'] === undefined
        ? {}
        : { tailLogMass: memory.takeAs('teacher.tailLogMass', sparse['tailLogMass'], 'float32', [rows]) }),
      temperature: (sparse['temperature'] as number | undefined) ?? temperature ?? 1,
      cols,
    });
  }
  const parts = Object.entries(checkOptions(action, teacher as Record<string, unknown>, ['logits', 'probs', 'logProbs']));
  if (parts.length !== 1)
    throw kindError(action, 'teacher must give one of logits, probs, logProbs, weight with hidden, or indices with logProbs', teacher);
  const [name, value] = parts[0]!;
  return denseTarget({ [name]: dense(`teacher.${name}`, value) } as unknown as Parameters<typeof denseTarget>[0]);
}

/** What `linearKdLoss` gives back: what stands in `out`, or a new array for the loss. */
export type RawLinearResult = Omit<RawLinearOut, 'loss'> & { loss: Floats | DLPack };

const passedOn = [...rowLossNames, ...softNames, 'scratchBytes'] as const;

function compute(hidden: unknown, weight: unknown, teacher: unknown, options: RawLinearKdLossOptions): RawLinearResult {
  const { bias, rowWeights, temperature, labels, dtype, teacherDtype = dtype } = options;
  const out = checkOptions(action, options.out, outNames);
  const size = sizesOf(hidden, weight, options);
  const { rows, cols, inputs } = size;
  const memory = new Memory();
  const x = memory.take('hidden', hidden, [rows, inputs], dtype);
  const w = memory.take('weight', weight, [cols, inputs], dtype);
  const b = bias === undefined ? null : memory.take('bias', bias, [cols], dtype);
  const perRow =
    temperature === undefined || typeof temperature === 'number'
      ? temperature
      : memory.takeAs('temperature', temperature, 'float32', [rows]);
  const target = targetOf(memory, teacher, size, teacherDtype, perRow);
  const settings: LinearKdLossOptions = {
    ...Object.fromEntries(passedOn.map((name) => [name, options[name]])),
    bias: b ?? undefined,
    temperature: perRow,
    rowWeights: rowWeights === undefined ? undefined : memory.takeAs('rowWeights', rowWeights, 'float32', [rows]),
    labels: isDLPack(labels) ? memory.takeAs('labels', labels, 'int32', [rows]) : labels,
  };
  if (b === null && out.gradientBias !== undefined)
    throw kindError(action, 'out.gradientBias must not be given without bias', phrase('it is'));
  const into = (name: keyof RawLinearOut, like: Like | null, sharing: Tensor | null = null): Tensor | null =>
    like === null || out[name] === undefined ? null : memory.takeOut(`out.${name}`, out[name], like, dtype, sharing);
  const gradients = [into('gradientHidden', x, x), into('gradientWeight', w), into('gradientBias', b)];
  const lossLike: Like = { dtype: computedIn(x.dtype), device: x.device, shape: options.reduction === 'none' ? [rows] : [1] };
  const lossOut = into('loss', lossLike);
  const loss = linearKdLossInto(x, w, target, settings, gradients);
  const result: RawLinearResult = { ...out, loss: out.loss ?? (hostCopy(loss, action).slice() as Floats) };
  if (lossOut !== null && lossOut.device === loss.device) copyInto(lossOut, loss, action);
  else if (lossOut !== null) (hostCopy(lossOut, action) as Floats).set(hostCopy(loss, action));
  return result;
}

/**
 * The distillation loss of hidden·weightᵀ + bias and its gradients for hidden, weight and bias, on typed arrays or on {@link DLPack} descriptors
 * (on CUDA all of them, but `out.loss`, labels as numbers): formulas, options and memory as `linearKdLoss` of the main module. Logits are never
 * whole in memory; with reduction 'none' the gradients are those of the sum of the rows.
 *
 * @param hidden [rows, inputs], without space between rows; a Uint16Array holds the bits of the half type that `dtype` names
 * @param weight [cols, inputs]; what stands behind in a typed array, the padding of a vocabulary, is not touched
 * @param teacher what `kdLoss` of this module takes, dense ones [rows, cols] without space between rows, or the teacher's own `{ hidden, weight, bias }`
 * @returns the arrays of `out`. Memory of a CUDA device must be finished when the call is made, and is when it returns
 * @throws TypeError and RangeError as `linearKdLoss`, and a RangeError where memory that is written is also read, but for `gradientHidden` over hidden
 *
 * @example
 * linearKdLoss(hidden, weight, { indices, logProbs }, { rows, cols, inputs, residual: 'tail_bucket', out: { gradientHidden, gradientWeight } });
 */
export function linearKdLoss(
  hidden: Stored | DLPack,
  weight: Stored | DLPack,
  teacher: DLPackTeacher | RawLinearTeacher,
  options?: RawLinearKdLossOptions,
): RawLinearResult {
  const given = checkOptions(action, options, optionNames);
  try {
    return tidy(() => compute(hidden, weight, teacher, given));
  } catch (error) {
    throw renamed(error);
  }
}

/** A message of the main module's function names this one. */
function renamed(error: unknown): unknown {
  if (error instanceof Error) error.message = error.message.replace(/^Cannot compute linearKdLoss:/, `Cannot ${action}:`);
  return error;
}
