/**
 * The losses as operations of TensorFlow.js, on any of its back ends, with the gradient made by the launch that makes the loss.
 *
 * @module limbeck/tfjs
 */
import * as tf from '@tensorflow/tfjs-core';
import { kindError, phrase } from '../errors.js';
import type { LabelNumbers } from '../losses/labels.js';
import type { Tensor } from '../tensor.js';
import { hostCopy, tensor } from '../tensor.js';
import {
  crossEntropyWith,
  differentiableLossOf,
  kdLossWith,
  lossOf,
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
export type TfjsTarget = TargetWith<tf.Tensor>;

/** Options of {@link crossEntropy}: tfjs tensors or limbeck's. */
export type TfjsCrossEntropyOptions = CrossEntropyOptionsWith<tf.Tensor>;

/** Options of {@link kdLoss}: tfjs tensors or limbeck's. */
export type TfjsKdLossOptions = KdLossOptionsWith<tf.Tensor>;

/**
 * The elements of a tfjs tensor as a tensor of limbeck on its default device: a teacher, weights or labels for {@link lossOp}.
 * Waits for the back end. On tfjs's `cpu` back end both see the same memory.
 *
 * @param x float32 or int32
 * @throws TypeError for another dtype
 */
export function fromTfjs(x: tf.Tensor): Tensor {
  return converted('convert a tfjs tensor', 'x', x);
}

function converted(action: string, name: string, x: unknown): Tensor {
  if (!(x instanceof tf.Tensor)) throw kindError(action, `${name} must be a tfjs tensor`, x);
  if (x.isDisposed) throw kindError(action, `${name} must not be disposed`, phrase('it is'));
  if (x.dtype !== 'float32' && x.dtype !== 'int32') throw kindError(action, `${name} must be float32 or int32`, phrase(`it is ${x.dtype}`));
  return tensor(x.dataSync() as Float32Array | Int32Array, { shape: x.shape });
}

/**
 * Any loss of limbeck as a differentiable operation of tfjs.
 *
 * @param loss from the student's logits, float32 [...leading, cols], to limbeck's loss of them; called once for each call of the operation
 * @returns an operation on a float32 tfjs tensor of the same shape. Its gradient is that of `loss`, of the first order alone: differentiating
 *   it again is a TypeError. Teachers, labels and weights are constants.
 *
 * @example
 * const loss = lossOp((student) => dkdLoss(student, fromTfjs(teacher), labels, { beta: 2 }));
 * optimizer.minimize(() => loss(model.apply(images)));
 */
export function lossOp(loss: Loss): (student: tf.Tensor) => tf.Tensor {
  if (typeof loss !== 'function') throw kindError('make a tfjs operation', 'loss must be a function', loss);
  return (student) => apply('compute a tfjs loss', student, loss);
}

function apply(action: string, student: unknown, loss: Loss): tf.Tensor {
  if (!(student instanceof tf.Tensor)) throw kindError(action, 'student must be a tfjs tensor', student);
  if (student.isDisposed) throw kindError(action, 'student must not be disposed', phrase('it is'));
  if (student.dtype !== 'float32') throw kindError(action, 'student must be float32', phrase(`it is ${student.dtype}`));
  const { shape } = student;
  const operation = tf.customGrad((x) => {
    const values = (x as tf.Tensor).dataSync() as Float32Array;
    if (!isRecording()) {
      const value = lossOf(action, loss, values, shape);
      return { value: tf.tensor(value.loss, [...value.shape], 'float32'), gradFunc: () => x as tf.Tensor };
    }
    const value = differentiableLossOf(action, loss, values, shape);
    const gradFunc = (upstream: tf.Tensor): tf.Tensor => {
      // The gradient is a constant to tfjs: a second derivative would be 0 without a word.
      if (isRecording()) throw kindError(action, 'the gradient must not be differentiated again', phrase('it is, inside another gradient'));
      return toTfjs(action, value.gradient(upstream.dataSync() as Float32Array));
    };
    return { value: tf.tensor(value.loss, [...value.shape], 'float32'), gradFunc };
  });
  return operation(student);
}

/** Whether tfjs records a tape: outside of its gradients nobody will ask for ours. */
function isRecording(): boolean {
  return tf.engine().state.gradientDepth > 0;
}

function toTfjs(action: string, gradient: Tensor): tf.Tensor {
  const shape = [...gradient.shape];
  // The WebAssembly back end copies at once, so that the memory can serve the next step; the others may keep the array.
  const isCopied = gradient.device !== 'cpu' || tf.getBackend() === 'wasm';
  const out = tf.tensor((isCopied ? hostCopy(gradient, action) : gradient.data) as Float32Array, shape, 'float32');
  gradient.dispose();
  return out;
}

/**
 * The distillation loss of a tfjs student; formulas, defaults and options as `kdLoss` of the main module.
 *
 * @param student logits, float32 [...leading, cols]
 * @param target the teacher's logits of the same shape; `{ probs }` or `{ logProbs }`; the parts of a sparse target
 *   (`{ indices, logProbs, tailLogMass }`), as tfjs tensors or arrays; or a target of limbeck's own
 * @returns a scalar, or the row losses in the leading shape with reduction 'none'
 * @throws TypeError and RangeError as `kdLoss` does
 *
 * @example
 * optimizer.minimize(() => kdLoss(model.apply(images), teacher.predict(images), { temperature: 4, labels, hardWeight: 0.1 }));
 */
export function kdLoss(student: tf.Tensor, target: TfjsTarget, options: TfjsKdLossOptions = {}): tf.Tensor {
  const action = 'compute kdLoss';
  return apply(action, student, kdLossWith(library, action, target, options));
}

/**
 * Cross-entropy of a tfjs student with integer labels; options as `crossEntropy` of the main module.
 *
 * @param student logits, float32 [...leading, cols]
 * @param labels an int32 tfjs tensor or numbers, one for each row
 */
export function crossEntropy(
  student: tf.Tensor,
  labels: Either<tf.Tensor> | LabelNumbers,
  options: TfjsCrossEntropyOptions = {},
): tf.Tensor {
  const action = 'compute crossEntropy';
  return apply(action, student, crossEntropyWith(library, action, labels, options));
}

function isTfjs(value: unknown): value is tf.Tensor {
  return value instanceof tf.Tensor;
}

const library: Foreign<tf.Tensor> = { isForeign: isTfjs, converted };
