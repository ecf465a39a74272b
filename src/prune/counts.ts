// What a model costs: parameters, those that are not zero, and floating-point operations of a forward pass.
import { noGrad, tidy } from '../autograd.js';
import { checkShape } from '../check.js';
import { kindError } from '../errors.js';
import { Linear, Module } from '../nn/index.js';
import { hostCopy, zeros, type Tensor } from '../tensor.js';
import { observing, type Observer } from './observe.js';

/** What {@link parameterCount} gives back. */
export interface ParameterCount {
  /** Elements of all parameters. */
  parameters: number;
  /** Those that are not 0. */
  nonZero: number;
  /** Share of the matrices' and kernels' weights that is 0; biases and norms do not count. */
  sparsity: number;
  /** The same of each parameter, by name. */
  byParameter: Record<string, { parameters: number; nonZero: number }>;
}

/** How many numbers a model has, and how many are not zero. */
export function parameterCount(model: Module): ParameterCount {
  if (!(model instanceof Module)) throw kindError('count parameters', 'model must be a Module', model);
  const count: ParameterCount = { parameters: 0, nonZero: 0, sparsity: 0, byParameter: {} };
  let weights = 0;
  let zeroWeights = 0;
  for (const [name, parameter] of model.namedParameters()) {
    const nonZero = nonZeroOf(parameter);
    count.parameters += parameter.size;
    count.nonZero += nonZero;
    count.byParameter[name] = { parameters: parameter.size, nonZero };
    if (parameter.shape.length < 2) continue;
    weights += parameter.size;
    zeroWeights += parameter.size - nonZero;
  }
  count.sparsity = weights > 0 ? zeroWeights / weights : 0;
  return count;
}

function nonZeroOf(parameter: Tensor): number {
  let nonZero = 0;
  for (const value of hostCopy(parameter, 'count parameters')) if (value !== 0) nonZero++;
  return nonZero;
}

/** What {@link flops} gives back. */
export interface FlopCount {
  /** 2 × multiply–adds of one forward pass over the input. */
  total: number;
  /** The same without the multiplications by weights that are 0: what is left for a kernel that skips them. */
  nonZero: number;
  /** The same of each layer, by name. */
  byLayer: Record<string, { total: number; nonZero: number }>;
}

/**
 * Floating-point operations of a forward pass: 2 × the multiply–adds of Linear layers. Biases, activations and norms are not counted.
 * The model runs once, on zeros, in evaluation mode.
 *
 * @param inputShape with the batch: [1, inputs] gives the cost of one row
 */
export function flops(model: Module, inputShape: readonly number[]): FlopCount {
  const action = 'count operations';
  if (!(model instanceof Module)) throw kindError(action, 'model must be a Module', model);
  const shape = checkShape(action, inputShape);
  const count: FlopCount = { total: 0, nonZero: 0, byLayer: {} };
  const add = (name: string, total: number, nonZero: number): void => {
    const layer = (count.byLayer[name] ??= { total: 0, nonZero: 0 });
    layer.total += total;
    layer.nonZero += nonZero;
    count.total += total;
    count.nonZero += nonZero;
  };
  const watched = new Map<Module, Observer>();
  for (const [name, module] of model.modules()) {
    if (module instanceof Linear) {
      const nonZero = nonZeroOf(module.weight);
      watched.set(module, (input) => {
        const rows = input.size / module.weight.shape[1]!;
        add(name, 2 * rows * module.weight.size, 2 * rows * nonZero);
      });
    }
  }
  const wasTraining = model.training;
  model.eval();
  try {
    const device = model.parameters()[0]?.device;
    observing(watched, () => tidy(() => noGrad(() => void model.forward(zeros(shape, { device })))));
  } finally {
    model.train(wasTraining);
  }
  return count;
}
