// The perceptron as a ready model.
import { checkFraction, checkOneOf, checkOptions, checkWhole } from '../check.js';
import type { Device } from '../device.js';
import { kindError, phrase, shapeText, valueError } from '../errors.js';
import { freshSeed } from '../random.js';
import type { Tensor } from '../tensor.js';
import { activationNames, activationOf, makeActivation, type ActivationName } from './activations.js';
import { checkWidth, Dropout, Linear, runLayers } from './layers.js';
import { Model, type ModelOutput } from './model.js';
import type { Module } from './module.js';
import { deriveSeed } from './seed.js';

/** The plain JSON of an {@link MLP}. */
export interface MLPConfig {
  kind: 'mlp';
  inputs: number;
  /** Units of each hidden layer; none makes a linear classifier. */
  hidden: number[];
  outputs: number;
  /** Default 'relu'. */
  activation?: ActivationName;
  /** After each hidden layer. Default 0. */
  dropout?: number;
  /** Before the first layer. Default 0. */
  inputDropout?: number;
}

/** Options of {@link MLP}. */
export interface MLPOptions extends Omit<MLPConfig, 'kind'> {
  /** Same seed, same weights, on every device. Default: a fresh one. */
  seed?: number;
  device?: Device;
}

/** What every ready model takes besides its config. */
export const placementNames = ['kind', 'seed', 'device'] as const;

/**
 * Linear layers with an activation between them: [n, inputs], or [n, ...] with as many numbers each, to logits [n, outputs].
 * Features: what each hidden layer gives, after its activation.
 */
export class MLP extends Model {
  readonly layers: readonly Module[];

  constructor(options: MLPOptions) {
    super();
    const action = 'make an MLP';
    if (options === undefined) throw kindError(action, 'options must be an object', options);
    const {
      inputs,
      hidden,
      outputs,
      activation = 'relu',
      dropout = 0,
      inputDropout = 0,
      seed = freshSeed(),
      device,
    } = checkOptions(action, options, ['inputs', 'hidden', 'outputs', 'activation', 'dropout', 'inputDropout', ...placementNames]);
    checkWhole(action, 'inputs', inputs, 1, 2 ** 31);
    checkWidths(action, 'hidden', hidden);
    checkWhole(action, 'outputs', outputs, 1, 2 ** 31);
    checkOneOf(action, 'activation', activation, activationNames);
    checkFraction(action, 'dropout', dropout);
    checkFraction(action, 'inputDropout', inputDropout);
    const layers: Module[] = [];
    const drop = (probability: number): void => {
      if (probability > 0) layers.push(new Dropout(probability, { seed: deriveSeed(seed, 'dropout', layers.length) }));
    };
    drop(inputDropout);
    [...hidden, outputs].forEach((width, i) => {
      layers.push(new Linear(i === 0 ? inputs : hidden[i - 1]!, width, { seed: deriveSeed(seed, 'linear', i), device }));
      if (i === hidden.length) return;
      layers.push(makeActivation(activation));
      drop(dropout);
    });
    this.layers = layers;
  }

  private get linears(): Linear[] {
    return this.layers.filter((layer) => layer instanceof Linear);
  }

  override get inputShape(): readonly number[] {
    return [this.linears[0]!.weight.shape[1]!];
  }

  override get outputs(): number {
    return this.linears.at(-1)!.weight.shape[0]!;
  }

  override get hiddenWidth(): number {
    return this.linears.at(-1)!.weight.shape[1]!;
  }

  override get featureShapes(): number[][] {
    return this.linears.slice(0, -1).map(({ weight }) => [weight.shape[0]!]);
  }

  override get config(): MLPConfig {
    const first = this.layers[0]!;
    const hidden = this.featureShapes.map(([width]) => width!);
    const afterActivation = this.layers[this.layers.findIndex((layer) => activationOf(layer) !== undefined) + 1];
    return {
      kind: 'mlp',
      inputs: this.inputShape[0]!,
      hidden,
      outputs: this.outputs,
      activation: this.layers.map(activationOf).find((name) => name !== undefined) ?? 'relu',
      dropout: hidden.length > 0 && afterActivation instanceof Dropout ? afterActivation.probability : 0,
      inputDropout: first instanceof Dropout ? first.probability : 0,
    };
  }

  override forward(x: Tensor): Tensor {
    let value = flatRows('run an MLP', x, this.inputShape[0]!);
    for (let at = 0; at < this.layers.length;) ({ value, next: at } = runLayers(this.layers, at, value));
    return value;
  }

  override forwardWithFeatures(x: Tensor): ModelOutput {
    const features: Tensor[] = [];
    let value = flatRows('run an MLP', x, this.inputShape[0]!);
    let hidden = value;
    for (let at = 0; at < this.layers.length;) {
      hidden = value;
      // Features are what there is before dropout.
      ({ value, next: at } = runLayers(this.layers, at, value, false));
      if (activationOf(this.layers[at - 1]!) !== undefined) features.push(value);
    }
    return { logits: value, features, hidden };
  }
}

export function checkWidths(action: string, name: string, value: unknown): void {
  if (!Array.isArray(value)) throw kindError(action, `${name} must be an array of whole numbers`, value);
  value.forEach((width, i) => checkWhole(action, `${name}[${i}]`, width, 1, 2 ** 31));
}

/** A batch as rows of `width` numbers. */
export function flatRows(action: string, x: Tensor, width: number): Tensor {
  if ((x as Tensor | undefined)?.shape?.length === 2) return checkWidth(action, x, width);
  const size = (x as Tensor | undefined)?.shape?.slice(1).reduce((product, extent) => product * extent, 1);
  if (size === undefined || x.shape.length < 2) return checkWidth(action, x, width);
  if (size !== width) {
    throw valueError(action, `x must have ${width} numbers in each example`, phrase(`its shape is ${shapeText(x.shape)}`));
  }
  return x.reshape([x.shape[0]!, width]);
}
