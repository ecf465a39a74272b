// What all teachers share: batches go in, targets come out, and access says how much of the teacher is seen.
import { checkOneOf } from '../check.js';
import type { Device } from '../device.js';
import { phrase, valueError, kindError } from '../errors.js';
import { residualNames, type Residual } from '../losses/settings.js';
import type { Target } from '../targets/file.js';
import { SparseTarget } from '../targets/target.js';
import { tensor, type Tensor } from '../tensor.js';

/** How much of a teacher is seen: whole rows, its best entries or samples, or only what it chose. */
export const accesses = ['full', 'topk', 'text'] as const;
export type Access = (typeof accesses)[number];

/** Batches, as they are or as they come. */
export type Batches<B> = Iterable<B> | AsyncIterable<B>;

/** What {@link Teacher.targets} takes. */
export interface TargetsOptions {
  /** Stops between batches, and requests on their way. */
  signal?: AbortSignal;
}

/** Options for kdLoss that belong to a target; the same loop serves every access by spreading them. */
export interface TargetLossOptions {
  /** The teacher's `residual`, where the target takes one. */
  residual?: Residual;
  /** float32 [rows]: critic weights, and 0 where nothing is known. */
  rowWeights?: Tensor;
}

/** What a teacher says about one batch. */
export interface TeacherTarget<B = unknown> {
  /** The batch it is about. */
  readonly batch: B;
  readonly target: Target;
  readonly rows: number;
  /** What the teacher chose in each row, [rows], −100 where that is unknown; null where nobody asked. */
  readonly labels: Int32Array | null;
  /** float32 [rows], or null where every row counts alike. */
  readonly rowWeights: Tensor | null;
  /** Rows of each sequence of the batch, in order. */
  readonly lengths: readonly number[];
  /** `kdLoss(student, it.target, { ...it.lossOptions })`. */
  readonly lossOptions: TargetLossOptions;
  /** Gives back the memory of target and weights. */
  dispose(): void;
  [Symbol.dispose](): void;
}

/** Anything that answers batches with targets. */
export interface Teacher<B> {
  readonly access: Access;
  /** One target for each batch, in order, each made when it is asked for: memory holds one batch. */
  targets(batches: Batches<B>, options?: TargetsOptions): AsyncGenerator<TeacherTarget<B>, void, void>;
}

/** Options of every teacher. */
export interface SharedOptions {
  /**
   * What to do with the columns that a sparse target leaves out, carried in `lossOptions`. Left out, it must be given to kdLoss
   * where the target has probabilities.
   */
  residual?: Residual;
  /** Where targets are put. Default: the one of setDevice. */
  device?: Device;
}

export function checkAccess<A extends Access>(action: string, value: unknown, allowed: readonly A[], why: string): A {
  const access = checkOneOf(action, 'access', value, accesses);
  if (!allowed.includes(access as A))
    throw valueError(action, `access must be ${allowed.map((name) => `'${name}'`).join(' or ')} (${why})`, access);
  return access as A;
}

export function checkResidual(action: string, value: unknown): Residual | undefined {
  if (value === undefined) return undefined;
  return checkOneOf(action, 'residual', value, residualNames) as Residual;
}

export function checkFunction<F>(action: string, name: string, value: F | undefined): F | undefined {
  if (value !== undefined && typeof value !== 'function') throw kindError(action, `${name} must be a function`, value);
  return value;
}

export function checkSignal(action: string, value: unknown): AbortSignal | undefined {
  if (value !== undefined && !(value instanceof AbortSignal)) throw kindError(action, 'signal must be an AbortSignal', value);
  return value;
}

/** Walks through batches of either kind; a signal stops it between them. */
export async function* each<B>(action: string, batches: Batches<B>, signal: AbortSignal | undefined): AsyncGenerator<B, void, void> {
  const list = batches as Partial<Iterable<B> & AsyncIterable<B>> | null | undefined;
  const isList =
    typeof batches !== 'string' &&
    (typeof list?.[Symbol.iterator] === 'function' || typeof list?.[Symbol.asyncIterator] === 'function') &&
    !ArrayBuffer.isView(batches);
  if (!isList) throw kindError(action, 'batches must be an array or an iterable', batches);
  signal?.throwIfAborted();
  for await (const batch of batches) {
    signal?.throwIfAborted();
    yield batch;
    signal?.throwIfAborted();
  }
}

/** Puts the parts of a {@link TeacherTarget} together. */
export function teacherTarget<B>(
  batch: B,
  target: Target,
  rows: number,
  parts: { labels?: Int32Array | null; rowWeights?: Tensor | null; lengths?: readonly number[]; residual?: Residual },
): TeacherTarget<B> {
  const { labels = null, rowWeights = null, lengths = [rows], residual } = parts;
  const takesResidual = target instanceof SparseTarget && target.weights === null;
  const lossOptions: TargetLossOptions = {};
  if (takesResidual && residual !== undefined) lossOptions.residual = residual;
  if (rowWeights !== null) lossOptions.rowWeights = rowWeights;
  const dispose = (): void => {
    target.dispose();
    rowWeights?.dispose();
  };
  return { batch, target, rows, labels, rowWeights, lengths, lossOptions, dispose, [Symbol.dispose]: dispose };
}

/**
 * A target of what the teacher chose: weight 1 on each label, so that the loss is −ln q(label), as for one sample of the
 * teacher. Rows of label −100 are empty.
 */
export function choiceTarget(action: string, labels: Int32Array, cols: number, device: Device | undefined): SparseTarget {
  const wrong = labels.findIndex((label) => label !== -100 && !(label >= 0 && label < cols));
  if (wrong >= 0) throw valueError(action, `every id must be in [0, ${cols})`, phrase(`it is ${labels[wrong]} in row ${wrong}`));
  const shape = [labels.length, 1];
  return new SparseTarget({
    indices: tensor(
      labels.map((label) => (label === -100 ? -1 : label)),
      { shape, device },
    ),
    weights: tensor(
      Float32Array.from(labels, (label) => (label === -100 ? 0 : 1)),
      { shape, device },
    ),
    logProbs: null,
    tailLogMass: null,
    temperature: 1,
    cols,
  });
}
