// How much each weight, and each part of a model, matters: by size, by activations, or by the loss's gradient.
import { checkOneOf } from '../check.js';
import { kindError, phrase, valueError } from '../errors.js';
import { Linear, Module } from '../nn/index.js';
import { gradientOf, Tensor } from '../tensor.js';
import { numbersOf, observing, overBatches, type Observer } from './observe.js';
import { indicesOf, partGroups, type PartGroup, type Structure } from './parts.js';

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
  module: Linear;
  weight: Tensor;
}

/** The weights that pruning acts on: those of Linear layers, not biases, norms or embeddings. */
export function prunableLayers(model: Module, only?: readonly string[]): PrunableLayer[] {
  const layers: PrunableLayer[] = [];
  for (const [path, module] of model.modules()) {
    if (module instanceof Linear) layers.push({ name: `${path === '' ? '' : `${path}.`}weight`, module, weight: module.weight });
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
 * @param options.parameters names of the weights to score; default: those of all Linear layers
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
      (input) => numbersOf(input).forEach((x, i) => (sums[i % sums.length]! += x * x)),
    ]),
  );
  observe(model, watched, options);
  return new Map(
    layers.map(({ name, module, weight }) => {
      const norms = squares.get(module)!.map(Math.sqrt);
      return [name, Float64Array.from(numbersOf(weight), (w, i) => Math.abs(w) * norms[i % norms.length]!)];
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
        const stride = shape.slice(slice.axis + 1).reduce((product, extent) => product * extent, 1);
        const step = stride * shape[slice.axis]!;
        for (let part = 0; part < group.count; part++) {
          for (const index of indicesOf(slice, [part])) {
            for (let from = index * stride; from < weights.length; from += step) {
              for (let i = from; i < from + stride; i++)
                scores[part]! += weights[i]! * (gradient === undefined ? weights[i]! : gradient[i]!);
            }
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
    const sum = sums.get(group.name)!;
    for (const { module, at, axis, size } of group.seen) {
      watched.set(module, (input, output) => {
        const seen = at === 'input' ? input : output;
        const values = numbersOf(seen);
        const inner = axis === 'last' ? 1 : seen.shape.slice(2).reduce((product, extent) => product * extent, 1);
        const row = group.count * size * inner;
        rows.set(group.name, rows.get(group.name)! + values.length / row);
        for (let from = 0, part = 0; from < values.length; from += size * inner, part = (part + 1) % group.count) {
          sum[part]! += group.structure === 'heads' ? norm(values, from, size) : meanSize(values, from, size * inner);
        }
      });
    }
  }
  observe(model, watched, options);
  for (const [name, sum] of sums) for (let i = 0; i < sum.length; i++) sum[i]! /= rows.get(name)!;
  return sums;
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
