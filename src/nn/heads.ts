// More heads than one on a ready model: exits on the way, and the two heads of DHO.
import { checkFraction, checkOptions, checkPositive, checkWhole } from '../check.js';
import type { Device } from '../device.js';
import { kindError, phrase, valueError } from '../errors.js';
import { freshSeed } from '../random.js';
import type { Tensor } from '../tensor.js';
import { add, addScalar, globalAvgPool2d, logSoftmax, softplus, sub } from '../ops/index.js';
import { Linear } from './layers.js';
import { Model, type ModelOutput } from './model.js';
import { Module } from './module.js';
import { LayerNorm } from './norm.js';
import { deriveSeed } from './seed.js';

/** Seed and device of heads. */
export interface HeadOptions {
  /** Same seed, same weights, on every device. Default: a fresh one. */
  seed?: number;
  device?: Device;
}

function checkOneHeaded(action: string, model: unknown): Model {
  if (!(model instanceof Model)) throw kindError(action, 'the model must be a ready one (MLP, CNN, GPT)', model);
  if (model instanceof Headed) throw kindError(action, 'the model must have one head', phrase('it has several'));
  return model;
}

/** A model around another: what goes in and out is the inner one's. */
abstract class Headed extends Model {
  abstract readonly model: Model;

  override get inputShape(): readonly number[] {
    return this.model.inputShape;
  }

  override get takesIds(): boolean {
    return this.model.takesIds;
  }

  override get outputs(): number {
    return this.model.outputs;
  }

  override get hiddenWidth(): number {
    return this.model.hiddenWidth;
  }

  override get featureShapes(): readonly (readonly number[])[] {
    return this.model.featureShapes;
  }
}

/** From one feature to logits: the mean of each channel of an image, the normalised tokens of a sequence, then a linear layer. */
export class ExitHead extends Module {
  readonly norm: LayerNorm | null;
  readonly output: Linear;

  /** @internal */
  constructor(shape: readonly number[], outputs: number, { seed, device }: HeadOptions) {
    super();
    const width = shape.length === 3 ? shape[0]! : shape[shape.length - 1]!;
    this.norm = shape.length === 2 ? new LayerNorm(width, { device }) : null;
    this.output = new Linear(width, outputs, { seed, device, ...(this.norm === null ? {} : { deviation: 0.02 }) });
  }

  override forward(x: Tensor): Tensor {
    const rows = x.shape.length === 4 ? globalAvgPool2d(x) : x;
    return this.output.forward(this.norm?.forward(rows) ?? rows);
  }
}

/** The plain JSON of a {@link MultiExit}. */
export interface MultiExitConfig<C = { kind: string }> {
  kind: 'multi_exit';
  model: C;
  /** After which features, counted from 0, there is a head. */
  exits: number[];
}

/**
 * A ready model with a head of its own on some of its features: each makes logits of the same classes, and the gradients of all
 * add up in the part they share. `forward` gives the model's own logits; `exits` of `forwardWithFeatures` are those of every
 * head, the model's own last.
 *
 * @example
 * const model = new nn.MultiExit(new nn.MLP({ inputs: 784, hidden: [64, 32], outputs: 10, seed: 1 }), { exits: [0], seed: 2 });
 */
export class MultiExit extends Headed {
  override readonly model: Model;
  readonly heads: readonly ExitHead[];
  readonly #exits: readonly number[];

  constructor(model: Model, options: HeadOptions & { exits: readonly number[] }) {
    super();
    const action = 'make a MultiExit';
    this.model = checkOneHeaded(action, model);
    const { exits, seed = freshSeed(), device } = checkOptions(action, options, ['exits', 'seed', 'device']);
    if (!Array.isArray(exits) || exits.length === 0) throw kindError(action, 'exits must be numbers of features', exits);
    const shapes = model.featureShapes;
    exits.forEach((exit, i) => {
      checkWhole(action, `exits[${i}]`, exit, 0, shapes.length - 1);
      if (i > 0 && !(exit > exits[i - 1]!)) throw valueError(action, 'exits must ascend', exits);
    });
    this.#exits = [...exits];
    this.heads = exits.map((exit) => new ExitHead(shapes[exit]!, model.outputs, { seed: deriveSeed(seed, 'exit', exit), device }));
  }

  /** After which features there is a head. */
  get exits(): readonly number[] {
    return this.#exits;
  }

  override get config(): MultiExitConfig {
    return { kind: 'multi_exit', model: this.model.config, exits: [...this.#exits] };
  }

  override forward(x: Tensor): Tensor {
    return this.model.forward(x);
  }

  override forwardWithFeatures(x: Tensor): ModelOutput {
    const output = this.model.forwardWithFeatures(x);
    const early = this.#exits.map((exit, i) => this.heads[i]!.forward(output.features[exit]!));
    return { ...output, exits: [...early, output.logits] };
  }
}

/** The plain JSON of a {@link DualHead}. */
export interface DualHeadConfig<C = { kind: string }> {
  kind: 'dual_head';
  model: C;
  /** Share of the first head in the prediction, in [0, 1]. Default 0.5. */
  alpha?: number;
  /** Temperature of the second head in the prediction. Default 1. */
  beta?: number;
}

/**
 * A ready model with a second head beside its own, both on what its output layer reads: the first learns labels, the second the
 * teacher. `exits` of `forwardWithFeatures` are the two; the logits are the logarithm of the prediction
 * alpha·softmax(z₁) + (1 − alpha)·softmax(z₂/beta). DHO: Kang et al., "Simple Semi-supervised Knowledge Distillation from
 * Vision-Language Models via Dual-Head Optimization", arXiv:2505.07675.
 */
export class DualHead extends Headed {
  override readonly model: Model;
  readonly second: Linear;
  readonly alpha: number;
  readonly beta: number;

  constructor(model: Model, options?: HeadOptions & { alpha?: number; beta?: number }) {
    super();
    const action = 'make a DualHead';
    this.model = checkOneHeaded(action, model);
    const { alpha = 0.5, beta = 1, seed = freshSeed(), device } = checkOptions(action, options, ['alpha', 'beta', 'seed', 'device']);
    this.alpha = checkFraction(action, 'alpha', alpha);
    this.beta = checkPositive(action, 'beta', beta);
    this.second = new Linear(model.hiddenWidth, model.outputs, { seed: deriveSeed(seed, 'second'), device });
  }

  override get config(): DualHeadConfig {
    return { kind: 'dual_head', model: this.model.config, alpha: this.alpha, beta: this.beta };
  }

  override forwardWithFeatures(x: Tensor): ModelOutput {
    const output = this.model.forwardWithFeatures(x);
    const first = output.logits;
    const second = this.second.forward(output.hidden);
    return { ...output, logits: this.#combined(first, second), exits: [first, second] };
  }

  #combined(first: Tensor, second: Tensor): Tensor {
    const { alpha, beta } = this;
    if (alpha === 1) return logSoftmax(first);
    if (alpha === 0) return logSoftmax(second, { temperature: beta });
    // ln(e^a + e^b) = a + ln(1 + e^(b − a)).
    const a = addScalar(logSoftmax(first), Math.log(alpha));
    const b = addScalar(logSoftmax(second, { temperature: beta }), Math.log(1 - alpha));
    return add(a, softplus(sub(b, a)));
  }
}
