// What the adapters share: a loss of limbeck's own on numbers that another library holds, its gradient when that library asks, and that
// library's tensors among targets and options.
import { collecting, disposeAll, noGrad, tidy } from '../autograd.js';
import { kindError, phrase } from '../errors.js';
import { crossEntropy, kdLoss, type CrossEntropyOptions, type KdLossOptions, type KdTarget } from '../losses/kd_loss.js';
import type { LabelNumbers } from '../losses/labels.js';
import { denseTarget, sparseTarget, type SparseTargetParts } from '../targets/target.js';
import { hostCopy, tensor, Tensor } from '../tensor.js';

/** Any loss of limbeck on a student's logits, float32 [...leading, cols]; teacher and options are its own. */
export type Loss = (student: Tensor) => Tensor;

/** A loss that has been computed: one number, or one for each row where it is given that way. */
export interface LossValue {
  readonly loss: Float32Array;
  readonly shape: readonly number[];
}

/** The same with the way back. */
export interface Differentiable extends LossValue {
  /**
   * The gradient of the student's shape, in memory that is the caller's from then on. To be called once.
   *
   * @param upstream derivative of the result by the loss, of the loss's shape; left out, it is 1
   */
  gradient(upstream?: Float32Array): Tensor;
}

/** The loss alone; nothing of limbeck's is kept. */
export function lossOf(action: string, loss: Loss, values: Float32Array, shape: readonly number[]): LossValue {
  return tidy(() => noGrad(() => read(action, loss(tensor(values, { shape })))));
}

/** The loss, and what its gradient needs: for a row loss, the gradient itself. What `loss` makes is disposed with it, as in tidy(). */
export function differentiableLossOf(action: string, loss: Loss, values: Float32Array, shape: readonly number[]): Differentiable {
  const made: Tensor[] = [];
  let student: Tensor;
  let out: Tensor;
  let value: LossValue;
  try {
    student = collecting(made, () => tensor(values, { shape, requiresGrad: true }));
    out = collecting(made, () => loss(student));
    value = read(action, out);
    if (!out.requiresGrad) throw kindError(action, 'the loss must be computed from the student', phrase('it is a constant'));
  } catch (error) {
    disposeAll(made);
    throw error;
  }
  return {
    ...value,
    gradient(upstream) {
      const back = (): Tensor => {
        // An upstream gradient of 1 costs no pass over the gradient.
        const isOne = out.size === 1 && (upstream === undefined || upstream[0] === 1);
        if (isOne) out.backward();
        else out.backward(tensor(upstream ?? new Float32Array(out.size).fill(1), { shape: out.shape }));
        return student.grad!;
      };
      let gradient: Tensor | undefined;
      try {
        return (gradient = collecting(made, back));
      } finally {
        disposeAll(made, gradient);
      }
    },
  };
}

function read(action: string, out: unknown): LossValue {
  if (!(out instanceof Tensor)) throw kindError(action, 'the loss must be a Tensor of limbeck', out);
  if (out.dtype !== 'float32') throw kindError(action, 'the loss must be float32', out.dtype);
  // A copy: what is computed here may be disposed.
  return { loss: hostCopy(out, action).slice() as Float32Array, shape: out.shape };
}

/** A constant of a loss, in limbeck's form or that of another library, whose tensors are F. */
export type Either<F> = F | Tensor;

/** A target, with tensors of either library in it. */
export type TargetWith<F> =
  F | { logits: F } | { probs: F } | { logProbs: F } | { [name in keyof SparseTargetParts]: SparseTargetParts[name] | F } | KdTarget;

/** Options of `crossEntropy`, with tensors of either library in them. */
export type CrossEntropyOptionsWith<F> = Omit<CrossEntropyOptions, 'rowWeights'> & {
  /** float32 [rows]. */
  rowWeights?: Either<F>;
};

/** Options of `kdLoss`, with tensors of either library in them. */
export type KdLossOptionsWith<F> = Omit<KdLossOptions, 'rowWeights' | 'temperature' | 'labels'> & {
  /** float32 [rows]. */
  rowWeights?: Either<F>;
  /** A positive number, or float32 [rows]. */
  temperature?: number | Either<F>;
  /** int32, one for each row. */
  labels?: Either<F> | LabelNumbers;
};

/** Another library, as far as the losses know it. */
export interface Foreign<F> {
  /** Whether a value is one of its tensors. */
  isForeign(value: unknown): value is F;
  /** Its elements as a tensor of limbeck. */
  converted(action: string, name: string, value: F): Tensor;
}

/** `kdLoss` of the main module with a target and options that hold another library's tensors, as a function of the student alone. */
export function kdLossWith<F>(library: Foreign<F>, action: string, target: TargetWith<F>, options: KdLossOptionsWith<F>): Loss {
  return (student) => kdLoss(student, targetOf(library, action, target), convertedEntries<KdLossOptions>(library, action, options));
}

/** The same of `crossEntropy`. */
export function crossEntropyWith<F>(
  library: Foreign<F>,
  action: string,
  labels: Either<F> | LabelNumbers,
  options: CrossEntropyOptionsWith<F>,
): Loss {
  return (student) =>
    crossEntropy(
      student,
      library.isForeign(labels) ? library.converted(action, 'labels', labels) : labels,
      convertedEntries<CrossEntropyOptions>(library, action, options),
    );
}

function targetOf<F>(library: Foreign<F>, action: string, target: unknown): KdTarget {
  if (library.isForeign(target)) return library.converted(action, 'the teacher', target);
  if (!isPlain(target)) return target as KdTarget;
  const parts = convertedEntries<SparseTargetParts & Parameters<typeof denseTarget>[0]>(library, action, target);
  return 'indices' in target ? sparseTarget(parts) : denseTarget(parts);
}

/** Whether a value is an object literal, whose entries may be looked through. */
function isPlain(value: unknown): value is object {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/** An object with the other library's tensors among its entries as limbeck's. What is no plain object goes on as it is, to be refused where every option is checked. */
function convertedEntries<T>(library: Foreign<unknown>, action: string, given: unknown): T {
  if (!isPlain(given)) return given as T;
  return Object.fromEntries(
    Object.entries(given).map(([name, value]: [string, unknown]) => [
      name,
      library.isForeign(value) ? library.converted(action, name, value) : value,
    ]),
  ) as T;
}
