// The convolutional network as a ready model.
import { checkFraction, checkOptions, checkWhole } from '../check.js';
import type { Device } from '../device.js';
import { kindError, phrase, shapeText, valueError } from '../errors.js';
import { freshSeed } from '../random.js';
import { relu } from '../ops/index.js';
import type { Tensor } from '../tensor.js';
import { Conv2d, MaxPool2d } from './convolution.js';
import { Dropout, Linear, runLinear } from './layers.js';
import { checkWidths, flatRows, placementNames } from './mlp.js';
import { Model, type ModelOutput } from './model.js';
import { deriveSeed } from './seed.js';

/** The plain JSON of a {@link CNN}. */
export interface CNNConfig {
  kind: 'cnn';
  /** [channels, height, width] of an image. */
  inputShape: number[];
  /** Channels of each stage of convolution, ReLU and pooling; each halves height and width. */
  channels: number[];
  /** Units of the hidden layers after them. Default []. */
  hidden?: number[];
  classes: number;
  /** After each hidden layer. Default 0. */
  dropout?: number;
}

/** Options of {@link CNN}. */
export interface CNNOptions extends Omit<CNNConfig, 'kind'> {
  /** Same seed, same weights, on every device. Default: a fresh one. */
  seed?: number;
  device?: Device;
}

/**
 * For each entry of `channels` a 3 × 3 convolution that keeps the size, ReLU and a pooling that halves it; then linear layers with
 * ReLU between them. x [n, channels, height, width] or [n, channels·height·width]; logits [n, classes]. Features: what each stage
 * gives, [n, channels, height, width], and each hidden layer.
 */
export class CNN extends Model {
  readonly convolutions: readonly Conv2d[];
  readonly pool = new MaxPool2d(2);
  readonly hidden: readonly Linear[];
  readonly drops: readonly Dropout[];
  readonly output: Linear;
  readonly #image: readonly [number, number, number];

  constructor(options: CNNOptions) {
    super();
    const action = 'make a CNN';
    if (options === undefined) throw kindError(action, 'options must be an object', options);
    const {
      inputShape,
      channels,
      hidden = [],
      classes,
      dropout = 0,
      seed = freshSeed(),
      device,
    } = checkOptions(action, options, ['inputShape', 'channels', 'hidden', 'classes', 'dropout', ...placementNames]);
    checkWidths(action, 'inputShape', inputShape);
    if (inputShape.length !== 3) throw valueError(action, 'inputShape must be [channels, height, width]', inputShape);
    checkWidths(action, 'channels', channels);
    checkWidths(action, 'hidden', hidden);
    checkWhole(action, 'classes', classes, 1, 2 ** 31);
    checkFraction(action, 'dropout', dropout);
    this.#image = [...inputShape] as [number, number, number];
    const [inputs, height, width] = this.#image;
    const scale = 2 ** channels.length;
    if (channels.length === 0) throw valueError(action, 'channels must have at least one stage', channels);
    if (height < scale || width < scale)
      throw valueError(action, `the image must be at least ${scale} × ${scale} for ${channels.length} stages`, inputShape);
    this.convolutions = channels.map(
      (next, i) => new Conv2d(i === 0 ? inputs : channels[i - 1]!, next, { padding: 1, seed: deriveSeed(seed, 'conv', i), device }),
    );
    const flat = channels.at(-1)! * Math.floor(height / scale) * Math.floor(width / scale);
    const widths = [flat, ...hidden];
    this.hidden = hidden.map((next, i) => new Linear(widths[i]!, next, { seed: deriveSeed(seed, 'hidden', i), device }));
    this.drops = dropout === 0 ? [] : hidden.map((_, i) => new Dropout(dropout, { seed: deriveSeed(seed, 'dropout', i) }));
    this.output = new Linear(widths.at(-1)!, classes, { seed: deriveSeed(seed, 'output'), device });
  }

  override get inputShape(): readonly number[] {
    return this.#image;
  }

  override get outputs(): number {
    return this.output.weight.shape[0]!;
  }

  override get hiddenWidth(): number {
    return this.output.weight.shape[1]!;
  }

  override get featureShapes(): number[][] {
    const [, height, width] = this.#image;
    const stages = this.convolutions.map(({ weight }, i) => [
      weight.shape[0]!,
      Math.floor(height / 2 ** (i + 1)),
      Math.floor(width / 2 ** (i + 1)),
    ]);
    return [...stages, ...this.hidden.map(({ weight }) => [weight.shape[0]!])];
  }

  override get config(): CNNConfig {
    return {
      kind: 'cnn',
      inputShape: [...this.#image],
      channels: this.convolutions.map(({ weight }) => weight.shape[0]!),
      hidden: this.hidden.map(({ weight }) => weight.shape[0]!),
      classes: this.outputs,
      dropout: this.drops[0]?.probability ?? 0,
    };
  }

  override forwardWithFeatures(x: Tensor): ModelOutput {
    const features: Tensor[] = [];
    let value = this.#images(x);
    for (const convolution of this.convolutions) {
      value = this.pool.forward(relu(convolution.forward(value)));
      features.push(value);
    }
    value = value.reshape([value.shape[0]!, value.size / value.shape[0]!]);
    this.hidden.forEach((layer, i) => {
      value = runLinear(layer, value, 'relu');
      features.push(value);
      value = this.drops[i]?.forward(value) ?? value;
    });
    return { logits: this.output.forward(value), features, hidden: value };
  }

  #images(x: Tensor): Tensor {
    const action = 'run a CNN';
    const [channels, height, width] = this.#image;
    if ((x as Tensor | undefined)?.shape?.length !== 4)
      return flatRows(action, x, channels * height * width).reshape([x.shape[0]!, channels, height, width]);
    if (x.shape[1] !== channels || x.shape[2] !== height || x.shape[3] !== width) {
      throw valueError(action, `x must have shape [images, ${channels}, ${height}, ${width}]`, phrase(`it has ${shapeText(x.shape)}`));
    }
    return x;
  }
}
