// What the adapters share: a loss of limbeck's own on numbers that another library holds, and its gradient when that library asks.
import { collecting, disposeAll, noGrad, tidy } from '../autograd.js';
import { kindError, phrase } from '../errors.js';
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

/** Whether a value is an object literal, whose entries may be looked through. */
export function isPlain(value: unknown): value is object {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/** The object with the other library's tensors among its entries as tensors of limbeck. */
export function convertedEntries<T>(
  given: object,
  isForeign: (value: unknown) => boolean,
  convert: (name: string, value: unknown) => Tensor,
): T {
  return Object.fromEntries(
    Object.entries(given).map(([name, value]: [string, unknown]) => [name, isForeign(value) ? convert(name, value) : value]),
  ) as T;
}
