// Masks: which weights stay, chosen by their scores over a model, a layer, or each group of m inputs.
import { checkOneOf, checkWhole } from '../check.js';
import { kindError, phrase, shapeText, valueError } from '../errors.js';

const action = 'prune';

/** Masks by parameter name, each as long as its parameter: 1 keeps, 0 holds at zero. */
export type Masks = ReadonlyMap<string, Float32Array>;

/** Scores of weights, at least 0: the smallest are pruned first. */
export type Scores = Float32Array | Float64Array;

/** Options of {@link scoreMasks}. */
export interface ScoreMaskOptions {
  /** Share of the weights that is zero afterwards, in [0, 1). */
  sparsity: number;
  /** `'global'` (default) counts over all layers together, `'layer'` prunes the same share of each. */
  scope?: 'global' | 'layer';
  /** Masks of an earlier stage, one per layer: what they prune stays pruned. */
  earlier?: readonly Float32Array[];
}

/** A share that leaves something: [0, 1). */
export function checkSparsity(value: unknown): number {
  if (typeof value !== 'number') throw kindError(action, 'sparsity must be a number', value);
  if (!(value >= 0 && value < 1)) throw valueError(action, 'sparsity must be in [0, 1)', value);
  return value;
}

/**
 * Masks (1 keeps, 0 prunes) that prune round(sparsity · weights) weights, those of the smallest scores. What an earlier mask pruned
 * stays pruned, and counts. Ties: the weight that comes first is pruned first.
 *
 * @param scores one array per layer; numbers of at least 0
 * @throws RangeError for a sparsity outside [0, 1), a score that is negative or NaN, or an earlier mask of another length
 */
export function scoreMasks(scores: readonly Scores[], options: ScoreMaskOptions): Float32Array[] {
  const { earlier, scope = 'global' } = options;
  const sparsity = checkSparsity(options.sparsity);
  checkOneOf(action, 'scope', scope, ['global', 'layer']);
  checkLayers('scores', scores);
  if (earlier !== undefined) checkEarlier(scores, earlier);
  if (scope === 'global') return smallest(scores, sparsity, earlier);
  return scores.map((layer, l) => smallest([layer], sparsity, earlier && [earlier[l]!])[0]!);
}

function checkLayers(name: string, layers: unknown): void {
  const isNumbers = (layer: unknown): boolean => layer instanceof Float32Array || layer instanceof Float64Array;
  if (!Array.isArray(layers) || !layers.every(isNumbers))
    throw kindError(action, `${name} must be an array of Float32Arrays or Float64Arrays`, layers);
}

function checkEarlier(scores: readonly Scores[], earlier: readonly Float32Array[]): void {
  checkLayers('masks', earlier);
  if (earlier.length !== scores.length)
    throw valueError(action, `there must be a mask for each of the ${scores.length} layers`, phrase(`there are ${earlier.length}`));
  scores.forEach((layer, l) => {
    if (earlier[l]!.length !== layer.length) {
      throw valueError(action, `mask ${l} must have ${layer.length} entries like its weights`, phrase(`it has ${earlier[l]!.length}`));
    }
  });
}

function smallest(scores: readonly Scores[], sparsity: number, earlier: readonly Float32Array[] | undefined): Float32Array[] {
  const total = scores.reduce((sum, layer) => sum + layer.length, 0);
  // Below every score: pruned weights come first, and count.
  const ranked = new Float64Array(total);
  let at = 0;
  scores.forEach((layer, l) => {
    for (let i = 0; i < layer.length; i++) {
      const score = layer[i]!;
      if (!(score >= 0))
        throw valueError(action, 'every score must be a number of at least 0', phrase(`score ${i} of layer ${l} is ${score}`));
      ranked[at++] = earlier?.[l]![i] === 0 ? -1 : score;
    }
  });
  const count = Math.round(sparsity * total);
  // The threshold is the count-th smallest; ties at it are pruned in order until the count is met.
  const threshold = count > 0 ? ranked.slice().sort()[count - 1]! : -Infinity;
  let ties = count;
  for (const score of ranked) if (score < threshold) ties--;
  at = 0;
  return scores.map((layer) => {
    const mask = new Float32Array(layer.length).fill(1);
    for (let i = 0; i < layer.length; i++, at++) {
      const score = ranked[at]!;
      if (score < 0 || score < threshold || (score === threshold && ties-- > 0)) mask[i] = 0;
    }
    return mask;
  });
}

/**
 * {@link scoreMasks} with |weight| for the score, over all layers together.
 *
 * @param weights The weights of each layer.
 * @param sparsity Share of all weights that is zero afterwards, in [0, 1).
 * @param earlier Masks of an earlier stage, one per layer.
 */
export function magnitudeMasks(weights: readonly Float32Array[], sparsity: number, earlier?: readonly Float32Array[]): Float32Array[] {
  checkLayers('weights', weights);
  return scoreMasks(
    weights.map((layer) => layer.map(Math.abs)),
    { sparsity, earlier },
  );
}

/** n of every m: of each m neighbours, n stay. */
export interface NOfM {
  n: number;
  m: number;
}

export function checkNOfM({ n, m }: NOfM): void {
  checkWhole(action, 'm', m, 2, 2 ** 16);
  checkWhole(action, 'n', n, 1, m - 1);
}

/**
 * The mask of one layer that keeps n of every m neighbours along the input dimension, those of the largest scores: 2:4 is what
 * the sparse tensor cores of NVIDIA's cards take (Mishra et al., arXiv:2104.08378). What an earlier mask pruned stays pruned: a group
 * then has at least m − n zeros, otherwise exactly. Ties: the weight that comes first is pruned first.
 *
 * @param scores of weights [outputs, inputs] or [outputs, inputs, height, width]; the groups run over inputs
 * @throws RangeError where the inputs are no multiple of m
 */
export function nOfMMask(scores: Scores, shape: readonly number[], { n, m }: NOfM, earlier?: Float32Array): Float32Array {
  checkLayers('scores', [scores]);
  checkNOfM({ n, m });
  if (earlier !== undefined) checkEarlier([scores], [earlier]);
  const [outputs = 0, inputs = 0, ...window] = shape;
  const stride = window.reduce((product, extent) => product * extent, 1);
  if (shape.length < 2 || outputs * inputs * stride !== scores.length)
    throw valueError(action, `shape must be [outputs, inputs, ...] of ${scores.length} weights`, phrase(`it is ${shapeText(shape)}`));
  if (inputs % m !== 0) throw valueError(action, `inputs must be a multiple of m = ${m}`, inputs);
  const mask = new Float32Array(scores.length).fill(1);
  const group = Array.from({ length: m }, (_, i) => i);
  for (let output = 0; output < outputs; output++) {
    for (let place = 0; place < stride; place++) {
      for (let first = 0; first < inputs; first += m) {
        const at = (i: number): number => (output * inputs + first + i) * stride + place;
        const score = (i: number): number => (earlier?.[at(i)] === 0 ? -1 : scores[at(i)]!);
        const order = group.slice().sort((a, b) => score(a) - score(b) || a - b);
        order.forEach((i, rank) => {
          if (rank < m - n || score(i) < 0) mask[at(i)] = 0;
        });
      }
    }
  }
  return mask;
}
