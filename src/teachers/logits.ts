// Teachers that give whole rows: any function from a batch to logits or probabilities, captured, sampled or kept as they are.
import { tidy } from '../autograd.js';
import { checkOneOf, checkOptions, checkPositive, checkRows, checkWhole } from '../check.js';
import type { DType, TypedArray } from '../dtypes.js';
import { kindError, LimbeckError, phrase, shapeText, valueError, wording } from '../errors.js';
import { log } from '../ops/unary.js';
import { logSumExp } from '../ops/log_sum_exp.js';
import { argmax } from '../ops/top_k.js';
import { freshSeed } from '../random.js';
import { captureTopK } from '../targets/capture.js';
import type { Target } from '../targets/file.js';
import { sampleTarget, type SampleMethod } from '../targets/sample.js';
import { DenseTarget } from '../targets/target.js';
import { hostCopy, Tensor, tensor, view } from '../tensor.js';
import {
  accesses,
  checkAccess,
  checkResidual,
  checkSignal,
  choiceTarget,
  each,
  teacherTarget,
  type Access,
  type Batches,
  type SharedOptions,
  type TargetsOptions,
  type Teacher,
  type TeacherTarget,
} from './teacher.js';

/** What a model gives back: a Tensor [..., cols], or plain numbers with their shape as ONNX Runtime and transformers.js have them. */
export type ModelOutput = Tensor | { data: ArrayLike<number> | TypedArray; dims: readonly number[]; type?: string };

/** Options of {@link logitsTeacher}. */
export interface LogitsOptions extends SharedOptions {
  /** 'full' keeps whole rows, 'topk' captures or samples them, 'text' keeps the best column alone. Default 'full'. */
  access?: Access;
  /** With 'topk': entries of each row, captured exactly; or `draws`. */
  k?: number;
  /** With 'topk': draws of each row, sampled without bias; or `k`. */
  draws?: number;
  /** With `draws`: how they are drawn. Default 'with_replacement'. */
  method?: SampleMethod;
  /** With `draws`: same seed, same ids, however the rows are cut into batches. Default: a fresh one. */
  seed?: number;
  /** With `draws`: the number of the first row in the whole data set. Default 0. */
  rowOffset?: number;
  /** With 'topk': the temperature of the probabilities kept. Default 1. */
  temperature?: number;
  /** What the model's numbers are. Default 'logits'. */
  values?: 'logits' | 'probs' | 'log_probs';
}

export const logitsOptionNames = [
  'access',
  'k',
  'draws',
  'method',
  'seed',
  'rowOffset',
  'temperature',
  'values',
  'residual',
  'device',
] as const;

/**
 * A teacher from a function that runs a model: it gets a batch and gives logits, probabilities or log-probabilities [..., cols].
 * Each batch is captured, sampled or kept before the next is run, so that memory holds the logits of one. A Tensor that `run` gives belongs to the
 * teacher, which disposes it unless it is the batch.
 *
 * - access 'full': a dense target of the rows.
 * - access 'topk' with `k`: {@link captureTopK}; with `draws`: {@link sampleTarget}.
 * - access 'text': the best column of each row with weight 1.
 *
 * @throws LimbeckError `bad_output` where the model gives NaN, rows of another width, or numbers that are not what `values` says
 *
 * @example
 * const teacher = logitsTeacher((batch) => tidy(() => noGrad(() => model.forward(batch))), { access: 'topk', k: 16, residual: 'tail_bucket' });
 * for await (const it of teacher.targets(batches)) kdLoss(student(it.batch), it.target, it.lossOptions).backward();
 */
export function logitsTeacher<B>(
  run: (batch: B, signal: AbortSignal | undefined) => ModelOutput | Promise<ModelOutput>,
  options?: LogitsOptions,
): LogitsTeacher<B> {
  const action = 'make a teacher';
  if (typeof run !== 'function') throw kindError(action, 'run must be a function from a batch to logits', run);
  return new LogitsTeacher<B>(action, run, checkOptions(action, options, logitsOptionNames));
}

/** Made by {@link logitsTeacher}. */
export class LogitsTeacher<B> implements Teacher<B> {
  readonly access: Access;
  readonly #run: (batch: B, signal: AbortSignal | undefined) => ModelOutput | Promise<ModelOutput>;
  readonly #options: LogitsOptions & { values: 'logits' | 'probs' | 'log_probs'; seed: number; rowOffset: number };

  /** @internal */
  constructor(
    action: string,
    run: (batch: B, signal: AbortSignal | undefined) => ModelOutput | Promise<ModelOutput>,
    options: LogitsOptions,
  ) {
    const { access = 'full', k, draws, method, seed = freshSeed(), rowOffset = 0, temperature, values = 'logits' } = options;
    this.access = checkAccess(action, access, accesses, 'all are possible');
    this.#run = run;
    if (access === 'topk') {
      if ((k === undefined) === (draws === undefined))
        throw kindError(
          action,
          "exactly one of k and draws must be given with access 'topk'",
          phrase(k === undefined ? 'there is none' : 'there are both'),
        );
      if (k !== undefined) checkWhole(action, 'k', k, 1);
      else checkWhole(action, 'draws', draws, 1, 2 ** 24);
    }
    const idle = { k, draws, method, temperature };
    for (const [name, value] of Object.entries(idle)) {
      const isRead = access === 'topk' && (name !== 'method' || draws !== undefined);
      if (value !== undefined && !isRead)
        throw kindError(
          action,
          `${name} must not be given with access '${access}'${access === 'topk' ? ' and k' : ''}`,
          phrase('it would not be read'),
        );
    }
    if (temperature !== undefined) checkPositive(action, 'temperature', temperature);
    checkWhole(action, 'seed', seed);
    checkWhole(action, 'rowOffset', rowOffset);
    checkOneOf(action, 'values', values, ['logits', 'probs', 'log_probs']);
    checkResidual(action, options.residual);
    this.#options = { ...options, values, seed, rowOffset };
  }

  async *targets(batches: Batches<B>, options?: TargetsOptions): AsyncGenerator<TeacherTarget<B>, void, void> {
    const action = 'run a teacher';
    const signal = checkSignal(action, checkOptions(action, options, ['signal']).signal);
    let { rowOffset } = this.#options;
    let width: number | null = null;
    for await (const batch of each(action, batches, signal)) {
      const output = await this.#run(batch, signal);
      signal?.throwIfAborted();
      const made = tidy(() => {
        const values = rowsOf(action, output, this.#options.device);
        const [rows, cols] = values.shape as [number, number];
        if (width !== null && cols !== width)
          throw badOutput(action, `every batch must have ${width} columns like the first`, `this one has ${cols}`);
        if (width === null && this.#options.values === 'logits') checkLogits(action, values);
        width = cols;
        return { rows, cols, ...this.#capture(action, values, rowOffset) };
      });
      // A device's memory is not collected: what a model made for the teacher ends here.
      if (output instanceof Tensor && (output as unknown) !== batch) output.dispose();
      rowOffset += made.rows;
      yield teacherTarget(batch, made.target, made.rows, { labels: made.labels, residual: this.#options.residual });
    }
  }

  #capture(action: string, given: Tensor, rowOffset: number): { target: Target; labels: Int32Array | null } {
    const { values: kind, k, draws, method, seed, temperature } = this.#options;
    const cols = given.shape[1]!;
    checkMass(action, given, kind);
    if (this.access === 'full') return { target: new DenseTarget(kind, given), labels: null };
    // float64 teachers are captured in float32, as every target is.
    const values = given.dtype === 'float64' ? given.cast('float32') : given;
    if (this.access === 'text') {
      const labels = Int32Array.from(hostCopy(argmax(values), action));
      return { target: choiceTarget(action, labels, cols, this.#options.device), labels };
    }
    const logits = kind === 'probs' ? log(values.dtype === 'float32' ? values : values.cast('float32')) : values;
    if (k !== undefined) {
      if (k > cols) throw valueError(action, `k must be at most the columns of the model (${cols})`, k);
      return { target: captureTopK(logits, k, { temperature }), labels: null };
    }
    return { target: sampleTarget(logits, draws!, { temperature, method, seed, rowOffset }), labels: null };
  }
}

function badOutput(action: string, mustHold: string, was: string): LimbeckError {
  return new LimbeckError('bad_output', wording(action, mustHold, was));
}

const outputTypes: Readonly<Record<string, DType>> = {
  float32: 'float32',
  float16: 'float16',
  bfloat16: 'bfloat16',
  float64: 'float64',
};

/** A model's output as rows [rows, cols]. */
function rowsOf(action: string, output: unknown, device: SharedOptions['device']): Tensor {
  if (output instanceof Tensor) {
    const { rows, cols } = checkRows(action, "the model's output", output, 1);
    const flat = view(output.requiresGrad ? output.detach() : output, [rows, cols]);
    return device === undefined ? flat : flat.to(device);
  }
  const { data, dims, type } = (output ?? {}) as { data?: unknown; dims?: unknown; type?: string };
  if (!Array.isArray(dims) || dims.length === 0 || data === undefined)
    throw kindError(action, 'the model must give a Tensor or { data, dims }', output);
  const cols = Number(dims[dims.length - 1]);
  const size = dims.reduce((product: number, extent: unknown) => product * Number(extent), 1);
  const { length } = data as ArrayLike<number>;
  if (length !== size || !(cols >= 1))
    throw badOutput(
      action,
      `the model's output must have the size of its shape ${shapeText(dims as number[])}`,
      `it has ${length} elements`,
    );
  const known =
    data instanceof Float32Array ? 'float32' : data instanceof Float64Array ? 'float64' : data instanceof Uint16Array ? 'float16' : null;
  const dtype = type === undefined ? known : (outputTypes[type] ?? null);
  if (type !== undefined && dtype === null)
    throw kindError(action, "the model's output must be of a floating type", phrase(`it is ${type}`));
  const isStored = dtype !== null && ArrayBuffer.isView(data) && known !== null;
  const array = isStored ? (data as TypedArray) : Float32Array.from(data as ArrayLike<number>);
  return tensor(array, { shape: [size / cols, cols], dtype: isStored ? dtype : 'float32', device });
}

/** Whether rows that are said to be logits look like probabilities: the commonest mistake with exported classifiers. */
function checkLogits(action: string, values: Tensor): void {
  if (values.dtype !== 'float32' && values.dtype !== 'float64') return;
  const [rows, cols] = values.shape as [number, number];
  const numbers = hostCopy(values, action);
  let between = false;
  for (let r = 0; r < Math.min(rows, 8); r++) {
    let sum = 0;
    for (let c = 0; c < cols; c++) {
      const value = numbers[r * cols + c]!;
      if (!(value >= 0 && value <= 1)) return;
      between ||= value > 0 && value < 1;
      sum += value;
    }
    if (Math.abs(sum - 1) > 1e-3) return;
  }
  if (between && cols > 1)
    throw badOutput(action, "values must be 'probs' where the rows are probabilities", "it is 'logits', and every row sums to 1");
}

/** Finite rows, of mass 1 where they are probabilities. */
function checkMass(action: string, values: Tensor, kind: 'logits' | 'probs' | 'log_probs'): void {
  const [rows, cols] = values.shape as [number, number];
  if (kind !== 'logits') {
    const holder = new DenseTarget(kind, view(values));
    const masses = holder.masses(cols);
    holder.dispose();
    for (let r = 0; r < rows; r++)
      if (!(Math.abs(masses[r]! - 1) <= 1e-3))
        throw badOutput(action, 'the probabilities of a row must sum to 1 within 1e-3', `they sum to ${masses[r]} in row ${r}`);
    return;
  }
  const wide = values.dtype === 'float32' || values.dtype === 'float64' ? values : values.cast('float32');
  const sums = hostCopy(logSumExp(wide), action);
  for (let r = 0; r < rows; r++)
    if (!Number.isFinite(sums[r]!))
      throw badOutput(action, 'the logits of a row must be numbers with a finite maximum', `ln Σ e^x is ${sums[r]} in row ${r}`);
}
