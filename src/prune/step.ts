// One step of pruning: scores, what goes, and the model with it gone.
import { checkOneOf } from '../check.js';
import { kindError, phrase, valueError } from '../errors.js';
import { Module } from '../nn/index.js';
import { assign, type Optimizer } from '../optim/optimizer.js';
import { tensor, type Tensor } from '../tensor.js';
import { parameterCount } from './counts.js';
import { partScores, prunableLayers, weightScores, type ImportanceOptions } from './importance.js';
import { checkNOfM, checkSparsity, nOfMMask, scoreMasks, type Masks, type NOfM } from './masks.js';
import { numbersOf } from './observe.js';
import { partGroups } from './groups.js';
import { structures, type Structure } from './parts.js';
import { keepParts } from './remove.js';

/** Options of {@link pruneStep}. */
export interface PruneOptions<B = Tensor> extends ImportanceOptions<B> {
  /**
   * `'unstructured'` (default) and `{ n, m }`, n of every m neighbours, give masks; the others take parts out: the model gets smaller.
   */
  structure?: 'unstructured' | NOfM | Structure;
  /** Share of the weights, or of the parts, that is gone afterwards, in [0, 1). Not for n of m, which says it itself. */
  sparsity?: number;
  /** `'global'`: over all layers together, the default for weights; `'layer'`: the same share of each, the default for parts. */
  scope?: 'global' | 'layer';
  /** Names of the weights to prune; default: those of all Linear and Conv2d layers. Not for parts. */
  parameters?: readonly string[];
  /** Masks of an earlier step: what they prune stays pruned. */
  earlier?: Masks | null;
  /** How many parts each group had before the first step, as an earlier report says: `sparsity` then counts from there. */
  original?: Readonly<Record<string, number>>;
}

/** What a step did. */
export interface PruneReport {
  /** Weights (or parts) that could be pruned, and those that are left. */
  before: number;
  after: number;
  /** Parameters of the model, and those that are not 0, before and after. */
  parameters: { before: number; after: number };
  nonZero: { before: number; after: number };
  /** Weights whose inputs are no multiple of m: left as they are by n of m. */
  skipped: string[];
  /** How many parts each group had before the first step. */
  original: Record<string, number>;
  /** Which parts stayed, by group, as numbers in the model that was given; empty for weights. */
  kept: Record<string, readonly number[]>;
}

/** What {@link pruneStep} gives back. */
export interface Pruned<M extends Module> {
  /** For weights the model that was given, its pruned weights 0; for parts a new and smaller one. */
  model: M;
  /** By parameter names of `model`. Hand them to {@link setMasks}, or pruned weights come back with the next step. */
  masks: Masks;
  report: PruneReport;
}

const action = 'prune';
const optionNames = ['method', 'structure', 'sparsity', 'scope', 'parameters', 'calibration', 'forward', 'loss', 'earlier', 'original'];

/**
 * Prunes a model once: scores its weights or parts, and takes the least important away.
 *
 * @example
 * const { masks } = prune.pruneStep(model, { sparsity: 0.5 });
 * prune.setMasks(optimizer, model, masks);
 */
export function pruneStep<M extends Module, B = Tensor>(model: M, options: PruneOptions<B> = {}): Pruned<M> {
  if (!(model instanceof Module)) throw kindError(action, 'model must be a Module', model);
  for (const name of Object.keys(options)) {
    if (!optionNames.includes(name)) throw kindError(action, `options must be among ${optionNames.join(', ')}`, phrase(`'${name}' is not`));
  }
  const { structure = 'unstructured' } = options;
  if (typeof structure === 'object' || structure === 'unstructured') return pruneWeights(model, structure, options);
  if (typeof structure === 'string' && /^\d+:\d+$/.test(structure)) {
    const [n, m] = structure.split(':');
    throw valueError(action, `structure must say n of m as { n: ${n}, m: ${m} }`, structure);
  }
  checkOneOf(action, 'structure', structure, ['unstructured', ...structures]);
  return pruneParts(model, structure, options);
}

function pruneWeights<M extends Module, B>(model: M, structure: 'unstructured' | NOfM, options: PruneOptions<B>): Pruned<M> {
  const { scope = 'global', earlier, sparsity } = options;
  const layers = prunableLayers(model, options.parameters);
  const before = parameterCount(model);
  const skipped: string[] = [];
  const names = layers.map(({ name }) => name);
  const previous = names.map((name, l) => earlier?.get(name) ?? new Float32Array(layers[l]!.weight.size).fill(1));
  let scored = layers;
  if (structure !== 'unstructured') {
    if (structure === null) throw kindError(action, 'structure must be a name or { n, m }', structure);
    checkNOfM(structure);
    if (sparsity !== undefined) throw valueError(action, 'sparsity must be left out for n of m, which says it', sparsity);
    scored = layers.filter(({ name, weight }) => weight.shape[1]! % structure.m === 0 || (skipped.push(name), false));
    if (scored.length === 0) throw valueError(action, `a layer must have a multiple of m = ${structure.m} inputs`, phrase('none has'));
  } else if (sparsity === undefined) throw kindError(action, 'sparsity must be a number', sparsity);
  const scores = weightScores(model, { ...importanceOf(options), parameters: scored.map(({ name }) => name) });
  const masks = new Map(earlier ?? []);
  if (structure === 'unstructured') {
    const chosen = scoreMasks(
      names.map((name) => scores.get(name)!),
      { sparsity: sparsity!, scope, earlier: previous },
    );
    names.forEach((name, i) => masks.set(name, chosen[i]!));
  } else {
    for (const { name, weight } of scored) {
      masks.set(name, nOfMMask(scores.get(name)!, weight.shape, structure, earlier?.get(name)));
    }
  }
  applyMasks(model, masks);
  const counts = names.map((name, l) => masks.get(name)?.reduce((sum, kept) => sum + kept, 0) ?? layers[l]!.weight.size);
  return {
    model,
    masks,
    report: {
      before: layers.reduce((sum, { weight }) => sum + weight.size, 0),
      after: counts.reduce((sum, count) => sum + count, 0),
      ...difference(before, model),
      skipped,
      original: {},
      kept: {},
    },
  };
}

function importanceOf<B>({ method, calibration, forward, loss }: PruneOptions<B>): ImportanceOptions<B> {
  return { method, calibration, forward, loss };
}

function difference(before: { parameters: number; nonZero: number }, model: Module): Pick<PruneReport, 'parameters' | 'nonZero'> {
  const after = parameterCount(model);
  return {
    parameters: { before: before.parameters, after: after.parameters },
    nonZero: { before: before.nonZero, after: after.nonZero },
  };
}

function pruneParts<M extends Module, B>(model: M, structure: Structure, options: PruneOptions<B>): Pruned<M> {
  const { scope = 'layer', earlier, original = {} } = options;
  const sparsity = checkSparsity(options.sparsity);
  checkOneOf(action, 'scope', scope, ['global', 'layer']);
  if (options.parameters !== undefined) throw kindError(action, `parameters must be left out for ${structure}`, phrase('they are given'));
  const groups = partGroups(model, structure);
  const full = Object.fromEntries(groups.map(({ name, count }) => [name, original[name] ?? count]));
  const scores = partScores(model, structure, importanceOf(options));
  const kept = scope === 'layer' ? keptByGroup(scores, full, sparsity) : keptOfAll(scores, full, sparsity);
  const before = parameterCount(model);
  const smaller = keepParts(model, structure, kept, { masks: earlier ?? undefined });
  return {
    ...smaller,
    report: {
      before: groups.reduce((sum, { count }) => sum + count, 0),
      after: [...kept.values()].reduce((sum, parts) => sum + parts.length, 0),
      ...difference(before, smaller.model),
      skipped: [],
      original: full,
      kept: Object.fromEntries(kept),
    },
  };
}

/** Numbers in order of their scores, the most important first; ties: the one that comes last first. */
function ranking(scores: Float64Array): number[] {
  return Array.from(scores, (_, i) => i).sort((a, b) => scores[b]! - scores[a]! || b - a);
}

function keptByGroup(scores: ReadonlyMap<string, Float64Array>, full: Record<string, number>, sparsity: number): Map<string, number[]> {
  return new Map(
    [...scores].map(([name, own]) => {
      const stay = full[name]! - Math.round(sparsity * full[name]!);
      if (stay < 1) throw valueError(action, `sparsity must leave a part of ${name}, which has ${own.length}`, sparsity);
      const parts = ranking(own).slice(0, stay);
      return [name, parts.sort((a, b) => a - b)];
    }),
  );
}

// Scores of different layers compare only relative to their layer: each is divided by its layer's mean.
function keptOfAll(scores: ReadonlyMap<string, Float64Array>, full: Record<string, number>, sparsity: number): Map<string, number[]> {
  const entries = [...scores].flatMap(([name, own]) => {
    const mean = own.reduce((sum, score) => sum + score, 0) / own.length;
    const [best] = ranking(own);
    // The best of each layer stays: a layer without parts would be no layer.
    return Array.from(own, (score, part) => ({ name, part, score: part === best ? Infinity : mean > 0 ? score / mean : 0 }));
  });
  const total = Object.values(full).reduce((sum, count) => sum + count, 0);
  const stay = total - Math.round(sparsity * total);
  if (stay < scores.size)
    throw valueError(action, `sparsity must leave a part of each of the ${scores.size} groups, ${total} parts`, sparsity);
  const order = entries
    .map((_, i) => i)
    .sort((a, b) => (entries[a]!.score === entries[b]!.score ? b - a : entries[b]!.score - entries[a]!.score));
  const kept = new Map([...scores.keys()].map((name): [string, number[]] => [name, []]));
  for (const i of order.slice(0, stay)) kept.get(entries[i]!.name)!.push(entries[i]!.part);
  for (const parts of kept.values()) parts.sort((a, b) => a - b);
  return kept;
}

/** Sets the weights to exactly 0 where their mask is 0. @throws RangeError for a name that is no parameter, or a mask of another size */
export function applyMasks(model: Module, masks: Masks): void {
  for (const [parameter, mask] of maskedParameters(model, masks)) {
    assign(
      parameter,
      numbersOf(parameter).map((w, i) => (mask[i] === 0 ? 0 : w)),
      action,
    );
  }
}

/** Holds pruned weights at exactly 0 through every step of the optimiser, momentum and weight decay included. */
export function setMasks(optimizer: Optimizer, model: Module, masks: Masks): void {
  for (const [parameter, mask] of maskedParameters(model, masks)) {
    const values = tensor(mask, { shape: parameter.shape, device: parameter.device });
    optimizer.setMask(parameter, values);
    values.dispose();
  }
}

function maskedParameters(model: Module, masks: Masks): [Tensor, Float32Array][] {
  const parameters = new Map(model.namedParameters());
  return [...masks].map(([name, mask]) => {
    const parameter = parameters.get(name);
    if (parameter === undefined)
      throw valueError('set masks', 'every mask must be of a parameter of the model', phrase(`'${name}' is none`));
    if (mask.length !== parameter.size) {
      throw valueError('set masks', `the mask of ${name} must have ${parameter.size} entries`, phrase(`it has ${mask.length}`));
    }
    return [parameter, mask];
  });
}
