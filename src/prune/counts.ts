// What a model costs: parameters, those that are not zero, and floating-point operations of a forward pass.
import { noGrad, tidy } from '../autograd.js';
import { checkShape } from '../check.js';
import { kindError } from '../errors.js';
import { Conv2d, GPT, Linear, Model, Module, CausalSelfAttention } from '../nn/index.js';
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
 * Floating-point operations of a forward pass: 2 × the multiply–adds of Linear and Conv2d layers, of attention (the products that
 * the causal mask leaves) and of a GPT's output layer. Biases, activations and norms are not counted. The model runs once, on zeros,
 * in evaluation mode.
 *
 * @param inputShape with the batch: [1, inputs] gives the cost of one row. Default: one example of a ready model
 */
export function flops(model: Module, inputShape?: readonly number[]): FlopCount {
  const action = 'count operations';
  if (!(model instanceof Module)) throw kindError(action, 'model must be a Module', model);
  if (inputShape === undefined && !(model instanceof Model)) throw kindError(action, 'inputShape must be given for this model', inputShape);
  const shape = checkShape(action, inputShape ?? [1, ...(model as Model).inputShape]);
  const count: FlopCount = { total: 0, nonZero: 0, byLayer: {} };
  const add = (name: string, total: number, nonZero: number): void => {
    const layer = (count.byLayer[name] ??= { total: 0, nonZero: 0 });
    layer.total += total;
    layer.nonZero += nonZero;
    count.total += total;
    count.nonZero += nonZero;
  };
  const watched = new Map<Module, Observer>();
  const watch = (module: Module, observer: Observer): void => {
    const before = watched.get(module);
    watched.set(module, (input, output) => {
      before?.(input, output);
      observer(input, output);
    });
  };
  const product = (name: string, weight: Tensor): ((uses: number) => void) => {
    const nonZero = nonZeroOf(weight);
    return (uses) => add(name, 2 * uses * weight.size, 2 * uses * nonZero);
  };
  for (const [name, module] of model.modules()) {
    const inside = name === '' ? '' : `${name}.`;
    if (module instanceof Linear) {
      const used = product(name, module.weight);
      watch(module, (input) => used(input.size / module.weight.shape[1]!));
    } else if (module instanceof Conv2d) {
      // Every weight is used once for each place of the result.
      const used = product(name, module.weight);
      watch(module, (_, output) => used(output.size / module.weight.shape[0]!));
    } else if (module instanceof CausalSelfAttention) {
      // Token t looks at t + 1 tokens: scores and sums of values, headWidth multiply–adds each, for every head.
      watch(module.projection, ({ shape: [batch, tokens, inner] }) => {
        const operations = 2 * batch! * tokens! * (tokens! + 1) * inner!;
        add(name, operations, operations);
      });
    } else if (module instanceof GPT) {
      const used = product(`${inside}head`, module.outputWeight);
      watch(module.norm, (input) => used(input.size / module.hiddenWidth));
    }
  }
  const wasTraining = model.training;
  model.eval();
  try {
    const device = model.parameters()[0]?.device;
    const dtype = model instanceof Model && model.takesIds ? 'int32' : 'float32';
    observing(watched, () => tidy(() => noGrad(() => void model.forward(zeros(shape, { device, dtype })))));
  } finally {
    model.train(wasTraining);
  }
  return count;
}
