/**
 * The losses for jax-js, whose own gradients take over where the loss ends: { loss, gradient }, and a valueAndGrad that joins both.
 *
 * @module limbeck/jax
 */
import { Array as JaxArray, numpy as np, vjp, type JsTree } from '@jax-js/jax';
import { checkOptions } from '../check.js';
import { kindError, phrase } from '../errors.js';
import type { LabelNumbers } from '../losses/labels.js';
import type { Tensor } from '../tensor.js';
import { hostCopy, tensor } from '../tensor.js';
import {
  crossEntropyWith,
  differentiableLossOf,
  kdLossWith,
  type CrossEntropyOptionsWith,
  type Either,
  type Foreign,
  type KdLossOptionsWith,
  type Loss,
  type TargetWith,
} from './evaluate.js';

export { LimbeckError } from '../errors.js';
export type { Loss } from './evaluate.js';

/** What {@link kdLoss} takes for a target: the teacher's logits, or what it says in another form. */
export type JaxTarget = TargetWith<JaxArray>;

/** Options of {@link crossEntropy}: jax-js arrays or limbeck's. */
export type JaxCrossEntropyOptions = CrossEntropyOptionsWith<JaxArray>;

/** Options of {@link kdLoss}: jax-js arrays or limbeck's. */
export type JaxKdLossOptions = KdLossOptionsWith<JaxArray>;

/** A loss and its gradient. */
export interface JaxLoss {
  /** A scalar, or [rows] in the student's leading shape with reduction 'none'. */
  loss: JaxArray;
  /** Of the student's shape. With reduction 'none' each row holds the gradient of its own loss. */
  gradient: JaxArray;
}

/**
 * The elements of a jax-js array as a tensor of limbeck on its default device: a teacher, weights or labels for {@link lossOp}. Uses the
 * array up, as every function of jax-js does; `x.ref` keeps it.
 *
 * @param x float32 or int32
 * @throws TypeError for another dtype, or inside a transformation of jax-js
 */
export function fromJax(x: JaxArray): Tensor {
  return converted('convert a jax-js array', 'x', x);
}

function converted(action: string, name: string, x: unknown): Tensor {
  const array = concrete(action, name, x);
  const { dtype, shape } = array;
  if (dtype !== np.float32 && dtype !== np.int32) throw kindError(action, `${name} must be float32 or int32`, phrase(`it is ${dtype}`));
  return tensor(array.dataSync() as Float32Array<ArrayBuffer> | Int32Array<ArrayBuffer>, { shape });
}

/** An array with numbers in it. Inside grad, jit and vmap jax-js passes stand-ins that have none. */
function concrete(action: string, name: string, x: unknown): JaxArray {
  if (x instanceof JaxArray) return x;
  const isTracer = typeof x === 'object' && x !== null && 'aval' in x;
  throw kindError(
    action,
    `${name} must be a jax-js array${isTracer ? ' outside of grad, jit and vmap, inside of which it has no numbers; valueAndGrad of limbeck/jax goes through it' : ''}`,
    x,
  );
}

/**
 * Any loss of limbeck with its gradient, on jax-js arrays.
 *
 * @param loss from the student's logits, float32 [...leading, cols], to limbeck's loss of them
 * @returns a function of the student's logits, which it uses up
 *
 * @example
 * const distance = lossOp((student) => dkdLoss(student, teacher, labels, { beta: 2 }));
 * const { loss, gradient } = distance(logits);
 */
export function lossOp(loss: Loss): (student: JaxArray) => JaxLoss {
  if (typeof loss !== 'function') throw kindError('make a jax-js loss', 'loss must be a function', loss);
  return (student) => apply('compute a jax-js loss', student, loss);
}

function apply(action: string, student: unknown, loss: Loss): JaxLoss {
  const array = concrete(action, 'student', student);
  if (array.dtype !== np.float32) throw kindError(action, 'student must be float32', phrase(`it is ${array.dtype}`));
  const { shape, device } = array;
  const value = differentiableLossOf(action, loss, array.dataSync() as Float32Array, shape);
  const gradient = value.gradient();
  const place = (numbers: Float32Array, extents: readonly number[]): JaxArray =>
    np.array(numbers as Float32Array<ArrayBuffer>, { shape: [...extents], device });
  // jax-js copies the elements into memory of its back end, so that ours can serve the next step.
  const out = { loss: place(value.loss, value.shape), gradient: place(hostCopy(gradient, action) as Float32Array, shape) };
  gradient.dispose();
  return out;
}

/**
 * The distillation loss of a jax-js student and its gradient; formulas, defaults and options as `kdLoss` of the main module. Arrays that are
 * given are used up.
 *
 * @param student logits, float32 [...leading, cols]
 * @param target the teacher's logits of the same shape; `{ probs }` or `{ logProbs }`; the parts of a sparse target
 *   (`{ indices, logProbs, tailLogMass }`), as jax-js arrays or plain ones; or a target of limbeck's own
 * @throws TypeError and RangeError as `kdLoss` does, and a TypeError inside grad, jit and vmap
 *
 * @example
 * const { loss, gradient } = kdLoss(logits, teacherLogits, { temperature: 4 });
 */
export function kdLoss(student: JaxArray, target: JaxTarget, options: JaxKdLossOptions = {}): JaxLoss {
  const action = 'compute kdLoss';
  return apply(action, student, kdLossWith(library, action, target, options));
}

/**
 * Cross-entropy of a jax-js student with integer labels and its gradient; options as `crossEntropy` of the main module. Arrays that are given
 * are used up.
 *
 * @param student logits, float32 [...leading, cols]
 * @param labels an int32 jax-js array or numbers, one for each row
 */
export function crossEntropy(student: JaxArray, labels: Either<JaxArray> | LabelNumbers, options: JaxCrossEntropyOptions = {}): JaxLoss {
  const action = 'compute crossEntropy';
  return apply(action, student, crossEntropyWith(library, action, labels, options));
}

/** Arrays and the stand-ins for them, which are refused by name. */
function isJax(value: unknown): value is JaxArray {
  return typeof value === 'object' && value !== null && 'aval' in value;
}

const library: Foreign<JaxArray> = { isForeign: isJax, converted };

/** Options of {@link valueAndGrad}. */
export interface ValueAndGradOptions {
  /** Which argument of the model is differentiated. Default 0. */
  argnum?: number;
}

/**
 * The value and gradient of a model followed by one of these losses: jax-js goes through the model, limbeck through the loss.
 *
 * @param model a differentiable function of jax-js to logits, `jit` or not
 * @param loss from those logits to `{ loss, gradient }`, as {@link kdLoss} gives it
 * @returns a function of the model's arguments, which it uses up, to [loss, gradient]; the gradient is a tree like the argument
 *
 * @example
 * const step = valueAndGrad(jit(model), (logits) => kdLoss(logits, teacherLogits, { temperature: 4 }));
 * const [loss, gradients] = step(tree.ref(parameters), images);
 */
export function valueAndGrad<A extends JsTree<JaxArray>[], const N extends number = 0>(
  model: (...args: A) => JaxArray,
  loss: (logits: JaxArray) => JaxLoss,
  options?: { argnum?: N },
): (...args: A) => [loss: JaxArray, gradient: A[N]] {
  const action = 'make valueAndGrad';
  if (typeof model !== 'function') throw kindError(action, 'model must be a function', model);
  if (typeof loss !== 'function') throw kindError(action, 'loss must be a function', loss);
  const { argnum = 0 } = checkOptions<{ argnum?: number }>(action, options, ['argnum']);
  return (...args) => {
    const through = (x: JsTree<JaxArray>): JaxArray => model(...(args.with(argnum, x) as A));
    const [logits, back] = vjp(through as (x: JaxArray) => JaxArray, [args[argnum] as JaxArray]);
    try {
      const { loss: value, gradient } = loss(logits);
      const [result] = back(gradient) as unknown as [A[N]];
      return [value, result];
    } finally {
      back.dispose();
    }
  };
}
