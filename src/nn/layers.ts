// The layers that most models are made of: Linear, Embedding, Dropout, and those without parameters.
import { checkBoolean, checkOptions, checkPositive, checkRows, checkTensor, checkWhole } from '../check.js';
import type { Device } from '../device.js';
import { kindError, phrase, shapeText, valueError } from '../errors.js';
import { freshSeed } from '../random.js';
import type { Tensor } from '../tensor.js';
import { add, dropout, embedding, gelu, linear, relu, silu, tanh } from '../ops/index.js';
import { linearThen, type Behind } from '../ops/matmul.js';
import { Module } from './module.js';
import { constantParameter, normalParameter, uniformParameter } from './parameters.js';
import { deriveSeed } from './seed.js';

/** Options of {@link Linear}. */
export interface LinearOptions {
  /** Default true. */
  bias?: boolean;
  /** Weights from N(0, deviation²) and a bias of 0. Default: Kaiming-uniform weights. */
  deviation?: number;
  /** Same seed, same weights, on every device. Default: a fresh one. */
  seed?: number;
  device?: Device;
}

/**
 * y = x·Wᵀ + b over the last dimension: x [..., inputs], W [outputs, inputs], y [..., outputs]. Weights begin Kaiming-uniform:
 * W = U(−√(6/inputs), √(6/inputs)), b = U(−1/√inputs, 1/√inputs).
 */
export class Linear extends Module {
  readonly weight: Tensor;
  readonly bias: Tensor | null;

  constructor(inputs: number, outputs: number, options?: LinearOptions) {
    super();
    const action = 'make a Linear';
    const { bias = true, deviation, seed = freshSeed(), device } = checkOptions(action, options, ['bias', 'deviation', 'seed', 'device']);
    checkWhole(action, 'inputs', inputs, 1, 2 ** 31);
    checkWhole(action, 'outputs', outputs, 1, 2 ** 31);
    checkBoolean(action, 'bias', bias);
    const shape = [outputs, inputs];
    if (deviation !== undefined) {
      checkPositive(action, 'deviation', deviation);
      this.weight = normalParameter(shape, deviation, deriveSeed(seed, 'weight'), device);
      this.bias = bias ? constantParameter([outputs], 0, device) : null;
    } else {
      this.weight = uniformParameter(shape, Math.sqrt(6 / inputs), deriveSeed(seed, 'weight'), device);
      this.bias = bias ? uniformParameter([outputs], 1 / Math.sqrt(inputs), deriveSeed(seed, 'bias'), device) : null;
    }
  }

  override forward(x: Tensor): Tensor {
    return linear(x, this.weight, this.bias);
  }
}

/** Options of {@link Embedding}. */
export interface EmbeddingOptions {
  /** Standard deviation of the weights at the beginning. Default 0.02. */
  deviation?: number;
  /** Same seed, same weights, on every device. Default: a fresh one. */
  seed?: number;
  device?: Device;
}

/** Row W[id] for each id: ids int32 of any shape with values in [0, count), W [count, width], result [...ids, width]. W begins as N(0, 0.02²). */
export class Embedding extends Module {
  readonly weight: Tensor;

  constructor(count: number, width: number, options?: EmbeddingOptions) {
    super();
    const action = 'make an Embedding';
    const { deviation = 0.02, seed = freshSeed(), device } = checkOptions(action, options, ['deviation', 'seed', 'device']);
    checkWhole(action, 'count', count, 1, 2 ** 31);
    checkWhole(action, 'width', width, 1, 2 ** 31);
    checkPositive(action, 'deviation', deviation);
    this.weight = normalParameter([count, width], deviation, deriveSeed(seed, 'weight'), device);
  }

  override forward(ids: Tensor): Tensor {
    return embedding(this.weight, ids);
  }
}

/** max(x, 0). */
export class ReLU extends Module {
  override forward(x: Tensor): Tensor {
    return relu(x);
  }
}

/** x·Φ(x), the exact form: see {@link gelu}. */
export class GELU extends Module {
  override forward(x: Tensor): Tensor {
    return gelu(x);
  }
}

/** x·σ(x): see {@link silu}. */
export class SiLU extends Module {
  override forward(x: Tensor): Tensor {
    return silu(x);
  }
}

/** Hyperbolic tangent. */
export class Tanh extends Module {
  override forward(x: Tensor): Tensor {
    return tanh(x);
  }
}

/** In training, each element becomes 0 with the probability given, the rest grow by 1 / (1 − probability). */
export class Dropout extends Module {
  readonly probability: number;
  readonly seed: number;
  /** Where the next call's random numbers begin; saved with the training state so that a resumed run drops the same elements. */
  offset = 0;

  constructor(probability: number, options?: { seed?: number }) {
    super();
    const action = 'make a Dropout';
    const { seed = freshSeed() } = checkOptions(action, options, ['seed']);
    if (typeof probability !== 'number') throw kindError(action, 'probability must be a number', probability);
    if (!(probability >= 0 && probability < 1)) throw valueError(action, 'probability must be in [0, 1)', probability);
    checkWhole(action, 'seed', seed, 0, Number.MAX_SAFE_INTEGER);
    this.probability = probability;
    this.seed = seed;
  }

  override forward(x: Tensor): Tensor {
    if (!this.training || this.probability === 0) return x;
    const { offset } = this;
    this.offset += x.size;
    return dropout(x, this.probability, { seed: this.seed, offset });
  }
}

type Activation = Exclude<Behind['activation'], 'none'>;

// By the method, so that a class of one's own, or a layer that is being watched, is left to itself.
const activationOfForward = new Map<unknown, Activation>([
  [ReLU.prototype.forward, 'relu'],
  [GELU.prototype.forward, 'gelu'],
  [SiLU.prototype.forward, 'silu'],
  [Tanh.prototype.forward, 'tanh'],
]);
const functions: Record<Activation, (x: Tensor) => Tensor> = { relu, gelu, silu, tanh };

function drops(layer: Module | null | undefined): layer is Dropout {
  return layer instanceof Dropout && layer.training && layer.probability > 0;
}

/** A linear layer, an activation and dropout, in one pass over the layer's results where each is what its class says. */
export function runLinear(layer: Linear, x: Tensor, activation: Activation | null, drop: Module | null = null): Tensor {
  const fusesDrop = drops(drop) && drop.forward === Dropout.prototype.forward && x.dtype === 'float32';
  if (layer.forward === Linear.prototype.forward && (activation !== null || fusesDrop)) {
    const behind: Behind = { activation: activation ?? 'none', probability: 0, seed: 0, offset: 0 };
    if (fusesDrop) Object.assign(behind, { probability: drop.probability, seed: drop.seed, offset: drop.offset });
    const out = linearThen(x, layer.weight, layer.bias, behind);
    if (!fusesDrop) return drop?.forward(out) ?? out;
    drop.offset += out.size;
    return out;
  }
  const plain = layer.forward(x);
  const out = activation === null ? plain : functions[activation](plain);
  return drop?.forward(out) ?? out;
}

/** Runs layer `at`, and those behind it that run in one pass with it; `next` is the first that has not run. */
export function runLayers(layers: readonly Module[], at: number, x: Tensor, withDropout = true): { value: Tensor; next: number } {
  const layer = layers[at]!;
  if (!(layer instanceof Linear)) return { value: layer.forward(x), next: at + 1 };
  const activation = activationOfForward.get(layers[at + 1]?.forward) ?? null;
  let next = at + (activation === null ? 1 : 2);
  const behind = layers[next];
  const drop = withDropout && drops(behind) ? behind : null;
  if (drop !== null) next++;
  return { value: runLinear(layer, x, activation, drop), next };
}

/** All dimensions but the first as one: [n, ...] to [n, product of the rest]. */
export class Flatten extends Module {
  override forward(x: Tensor): Tensor {
    const action = 'compute a Flatten';
    checkTensor(action, 'x', x);
    if (x.shape.length < 2) throw valueError(action, 'x must have at least two dimensions', phrase(`its shape is ${shapeText(x.shape)}`));
    return x.reshape([x.shape[0]!, x.shape.slice(1).reduce((product, extent) => product * extent, 1)]);
  }
}

/** Modules one after the other. */
export class Sequential extends Module {
  readonly layers: readonly Module[];

  constructor(...layers: Module[]) {
    super();
    this.layers = layers.map((layer, i) => checkModule('make a Sequential', `layer ${i}`, layer));
  }

  override forward(x: Tensor): Tensor {
    let value = x;
    for (let at = 0; at < this.layers.length;) ({ value, next: at } = runLayers(this.layers, at, value));
    return value;
  }
}

/** x + inner(x), or shortcut(x) + inner(x) where the shapes differ: He et al., "Deep Residual Learning", eq. 1 and 2. */
export class Residual extends Module {
  readonly inner: Module;
  readonly shortcut: Module | null;

  constructor(inner: Module, options?: { shortcut?: Module }) {
    super();
    const action = 'make a Residual';
    const { shortcut } = checkOptions(action, options, ['shortcut']);
    this.inner = checkModule(action, 'inner', inner);
    this.shortcut = shortcut === undefined ? null : checkModule(action, 'shortcut', shortcut);
  }

  override forward(x: Tensor): Tensor {
    const changed = this.inner.forward(x);
    const kept = this.shortcut === null ? x : this.shortcut.forward(x);
    if (shapeText(changed.shape) !== shapeText(kept.shape)) {
      throw valueError(
        'compute a Residual',
        `the inner module must keep the shape ${shapeText(kept.shape)}`,
        phrase(`it gives ${shapeText(changed.shape)}`),
      );
    }
    return add(kept, changed);
  }
}

export function checkModule(action: string, name: string, value: unknown): Module {
  if (!(value instanceof Module)) throw kindError(action, `${name} must be a Module`, value);
  return value;
}

/** The extent of the last dimension, where it is the one that a layer was made for. */
export function checkWidth(action: string, x: unknown, width: number): Tensor {
  const tensor = checkTensor(action, 'x', x);
  const { cols } = checkRows(action, 'x', tensor);
  if (cols !== width) throw valueError(action, `x must have ${width} columns`, phrase(`its shape is ${shapeText(tensor.shape)}`));
  return tensor;
}
