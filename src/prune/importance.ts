// How much each weight, and each part of a model, matters: by size, by activations, or by the loss's gradient.
import { checkOneOf } from '../check.js';
import { kindError, phrase, valueError } from '../errors.js';
import { Conv2d, GPT, Linear, Module } from '../nn/index.js';
import { gradientOf, Tensor } from '../tensor.js';
import { numbersOf, observing, overBatches, type Observer } from './observe.js';
import { partGroups } from './groups.js';
import { placesOf, type PartGroup, type Seen, type Structure } from './parts.js';

/** What scores are made of. */
export type ImportanceMethod = 'magnitude' | 'activation' | 'gradient';

const methods: readonly ImportanceMethod[] = ['magnitude', 'activation', 'gradient'];

/** Options of {@link weightScores} and {@link partScores}. */
export interface ImportanceOptions<B = Tensor> {
  /**
   * `'magnitude'` (default) needs the weights only, `'activation'` a forward pass over the calibration batches, `'gradient'` a
   * backward pass too.
   */
  method?: ImportanceMethod;
  /** Gives the batches to look at, anew at every call. What it makes is its own to dispose. */
  calibration?: () => Iterable<B>;
  /** Runs the model on one batch. Default: `model.forward(batch)`. */
  forward?: (model: Module, batch: B) => unknown;
  /** The loss of one batch, for `'gradient'`: a mean over its rows. */
  loss?: (model: Module, batch: B) => Tensor;
}

const action = 'score importance';

/** A layer with weights that pruning acts on. */
export interface PrunableLayer {
  /** The parameter's name. */
  name: string;
  module: Linear | Conv2d;
  weight: Tensor;
}

/** The weights that pruning acts on: those of Linear and Conv2d layers, not biases, norms or embeddings, nor a GPT's output layer. */
export function prunableLayers(model: Module, only?: readonly string[]): PrunableLayer[] {
  const layers: PrunableLayer[] = [];
  const outputs = new Set<Module>();
  for (const [path, module] of model.modules()) {
    if (module instanceof GPT && module.head !== null) outputs.add(module.head);
    if ((module instanceof Linear || module instanceof Conv2d) && !outputs.has(module))
      layers.push({ name: `${path === '' ? '' : `${path}.`}weight`, module, weight: module.weight });
  }
  for (const name of only ?? []) {
    if (!layers.some((layer) => layer.name === name)) {
      throw valueError('prune', `parameters must be among ${layers.map((layer) => layer.name).join(', ')}`, name);
    }
  }
  const chosen = only === undefined ? layers : layers.filter((layer) => only.includes(layer.name));
  if (chosen.length === 0) throw valueError('prune', 'the model must have weights to prune', phrase('it has none'));
  return chosen;
}

/**
 * The score of every weight, by parameter name, in the parameter's order. The smallest matter least.
 *
 * - `'magnitude'`: |w|.
 * - `'activation'`: |w_ij| · ‖x_j‖₂, x_j all values of input j over the calibration rows (Wanda: Sun et al. 2023, arXiv:2306.11695, eq. 1).
 * - `'gradient'`: |w · ∂L/∂w|, L the mean loss over the batches: how much L changes, to first order, when w becomes 0
 *   (Molchanov et al. 2017, arXiv:1611.06440, eq. 7).
 *
 * @param options.parameters names of the weights to score; default: those of all Linear and Conv2d layers
 * @throws RangeError where calibration has no batch, TypeError where a method's option is missing
 */
export function weightScores<B = Tensor>(
  model: Module,
  options: ImportanceOptions<B> & { parameters?: readonly string[] } = {},
): Map<string, Float64Array> {
  const { method = 'magnitude' } = options;
  checkModel(model, method);
  const layers = prunableLayers(model, options.parameters);
  if (method === 'activation') return activationWeightScores(model, layers, options);
  const gradients = method === 'gradient' ? meanGradients(model, options) : null;
  return new Map(
    layers.map(({ name, weight }) => {
      const factor = gradients?.get(name);
      return [name, Float64Array.from(numbersOf(weight), (w, i) => Math.abs(factor === undefined ? w : w * factor[i]!))];
    }),
  );
}

function checkModel(model: unknown, method: unknown): void {
  if (!(model instanceof Module)) throw kindError(action, 'model must be a Module', model);
  checkOneOf(action, 'method', method, methods);
}

function calibrationOf<B>({ calibration, method }: ImportanceOptions<B>): Iterable<B> {
  if (typeof calibration !== 'function')
    throw kindError(action, `calibration must be a function that gives batches, for method '${method}'`, calibration);
  const batches = calibration();
  if (typeof batches !== 'object' || batches === null || !(Symbol.iterator in batches))
    throw kindError(action, 'calibration must give something to walk through', batches);
  return batches;
}

function runForward<B>(model: Module, batch: B, forward: ImportanceOptions<B>['forward']): void {
  if (forward !== undefined) forward(model, batch);
  else if (batch instanceof Tensor) model.forward(batch);
  else throw kindError(action, 'every batch must be a Tensor where options give no forward', batch);
}

/** Runs the model over the calibration batches under observers. */
function observe<B>(model: Module, watched: ReadonlyMap<Module, Observer>, options: ImportanceOptions<B>): void {
  const called = new Set<Module>();
  const counted = new Map(
    [...watched].map(([module, observer]): [Module, Observer] => [
      module,
      (input, output) => {
        called.add(module);
        observer(input, output);
      },
    ]),
  );
  const batches = calibrationOf(options);
  const count = observing(counted, () => overBatches(model, batches, (batch) => runForward(model, batch, options.forward)));
  if (count === 0) throw valueError(action, 'calibration must give a batch', phrase('it gives none'));
  for (const [name, module] of model.modules()) {
    if (watched.has(module) && !called.has(module))
      throw valueError(action, 'the model must call forward of every layer that is scored', phrase(`it does not call that of ${name}`));
  }
}

/** ∂L/∂w of every parameter, L the mean of the batches' losses. The model's own gradients stay what they were. */
function meanGradients<B>(model: Module, options: ImportanceOptions<B>): Map<string, Float64Array> {
  const { loss } = options;
  if (typeof loss !== 'function') throw kindError(action, "loss must be a function of model and batch, for method 'gradient'", loss);
  const named = [...model.namedParameters()];
  if (named.some(([, parameter]) => gradientOf(parameter) !== null))
    throw valueError(action, 'the parameters must have no gradient', phrase('one has; zeroGrad() forgets it'));
  const sums = new Map(named.map(([name, parameter]) => [name, new Float64Array(parameter.size)]));
  const count = overBatches(
    model,
    calibrationOf(options),
    (batch) => {
      try {
        const value = loss(model, batch);
        if (!(value instanceof Tensor) || value.size !== 1) throw kindError(action, 'loss must give a Tensor of one element', value);
        value.backward();
        for (const [name, parameter] of named) {
          const gradient = gradientOf(parameter);
          const sum = sums.get(name)!;
          if (gradient !== null) numbersOf(gradient).forEach((g, i) => (sum[i]! += g));
        }
      } finally {
        for (const [, parameter] of named) parameter.zeroGrad();
      }
    },
    true,
  );
  if (count === 0) throw valueError(action, 'calibration must give a batch', phrase('it gives none'));
  for (const sum of sums.values()) for (let i = 0; i < sum.length; i++) sum[i]! /= count;
  return sums;
}

function activationWeightScores<B>(
  model: Module,
  layers: readonly PrunableLayer[],
  options: ImportanceOptions<B>,
): Map<string, Float64Array> {
  const squares = new Map(layers.map(({ module }) => [module, new Float64Array(module.weight.shape[1]!)]));
  const watched = new Map(
    [...squares].map(([module, sums]): [Module, Observer] => [
      module,
      (input) => {
        // Images have height·width values for each channel.
        const inner = module instanceof Conv2d ? input.shape[2]! * input.shape[3]! : 1;
        numbersOf(input).forEach((x, i) => (sums[Math.floor(i / inner) % sums.length]! += x * x));
      },
    ]),
  );
  observe(model, watched, options);
  return new Map(
    layers.map(({ name, module, weight }) => {
      const norms = squares.get(module)!.map(Math.sqrt);
      const inner = weight.size / (weight.shape[0]! * weight.shape[1]!);
      return [name, Float64Array.from(numbersOf(weight), (w, i) => Math.abs(w) * norms[Math.floor(i / inner) % norms.length]!)];
    }),
  );
}

// ---- parts

/**
 * The score of every part of each group, by the group's name. The smallest matter least.
 *
 * - `'magnitude'`: the L2 norm of all weights that make the part or read it (group norm: Fang et al. 2023, arXiv:2301.12900).
 * - `'activation'`: the mean over calibration rows of the part's |activation|, for heads of its output's L2 norm, for layers
 *   1 − cosine(input, output) (Minitron: Muralidharan et al. 2024, arXiv:2407.14679, section 2.2).
 * - `'gradient'`: |Σ w · ∂L/∂w| over the weights that make the part: how much the mean loss changes, to first order, when the part
 *   becomes 0 (Molchanov et al. 2019, arXiv:1906.10771).
 */
export function partScores<B = Tensor>(model: Module, structure: Structure, options: ImportanceOptions<B> = {}): Map<string, Float64Array> {
  const { method = 'magnitude' } = options;
  checkModel(model, method);
  const groups = partGroups(model, structure);
  if (method === 'activation') return activationPartScores(model, groups, options);
  const gradients = method === 'gradient' ? meanGradients(model, options) : null;
  const parameters = new Map([...model.namedParameters()].map(([name, parameter]) => [name, parameter]));
  return new Map(
    groups.map((group) => {
      const scores = new Float64Array(group.count);
      for (const slice of group.slices) {
        if (gradients !== null && slice.role === 'reads') continue;
        const { shape } = parameters.get(slice.parameter)!;
        const weights = numbersOf(parameters.get(slice.parameter)!);
        const gradient = gradients?.get(slice.parameter);
        for (let part = 0; part < group.count; part++) {
          for (const [from, to] of placesOf(slice, [part], shape)) {
            for (let i = from; i < to; i++) scores[part]! += weights[i]! * (gradient === undefined ? weights[i]! : gradient[i]!);
          }
        }
      }
      return [group.name, scores.map(gradients === null ? Math.sqrt : Math.abs)];
    }),
  );
}

function activationPartScores<B>(model: Module, groups: readonly PartGroup[], options: ImportanceOptions<B>): Map<string, Float64Array> {
  const sums = new Map(groups.map((group) => [group.name, new Float64Array(group.count)]));
  const rows = new Map(groups.map((group) => [group.name, 0]));
  const watched = new Map<Module, Observer>();
  for (const group of groups) {
    const count = (added: number): void => void rows.set(group.name, rows.get(group.name)! + added);
    for (const seen of group.seen) {
      if (seen.kind === 'values') watched.set(seen.module, valuesObserver(group, seen, sums.get(group.name)!, count));
      else for (const [module, observer] of betweenObservers(seen.modules, sums.get(group.name)!, count)) watched.set(module, observer);
    }
  }
  observe(model, watched, options);
  for (const [name, sum] of sums) for (let i = 0; i < sum.length; i++) sum[i]! /= rows.get(name)!;
  return sums;
}

function valuesObserver(
  group: PartGroup,
  { at, axis, size }: Extract<Seen, { kind: 'values' }>,
  sum: Float64Array,
  count: (rows: number) => void,
): Observer {
  return (input, output) => {
    const seen = at === 'input' ? input : output;
    const values = numbersOf(seen);
    const wide = axis === 'last' ? size : size * seen.shape[2]! * seen.shape[3]!;
    count(values.length / (group.count * wide));
    for (let from = 0, part = 0; from < values.length; from += wide, part = (part + 1) % group.count) {
      sum[part]! += group.structure === 'heads' ? norm(values, from, wide) : meanSize(values, from, wide);
    }
  };
}

/** 1 − cosine of what goes into a layer and what comes out of it, row by row: between the inputs of one module and the next. */
function betweenObservers(modules: readonly Module[], sum: Float64Array, count: (rows: number) => void): [Module, Observer][] {
  let before: Float32Array | null = null;
  return modules.map((module, m) => [
    module,
    (input) => {
      const values = numbersOf(input).slice();
      const cols = input.shape[input.shape.length - 1]!;
      if (m === 0) count(values.length / cols);
      else for (let from = 0; from < values.length; from += cols) sum[m - 1]! += 1 - cosine(before!, values, from, cols);
      before = values;
    },
  ]);
}

function cosine(a: Float32Array, b: Float32Array, from: number, count: number): number {
  let product = 0;
  for (let i = from; i < from + count; i++) product += a[i]! * b[i]!;
  const size = norm(a, from, count) * norm(b, from, count);
  return size > 0 ? product / size : 0;
}

function norm(values: Float32Array, from: number, count: number): number {
  let sum = 0;
  for (let i = from; i < from + count; i++) sum += values[i]! * values[i]!;
  return Math.sqrt(sum);
}

function meanSize(values: Float32Array, from: number, count: number): number {
  let sum = 0;
  for (let i = from; i < from + count; i++) sum += Math.abs(values[i]!);
  return sum / count;
}
