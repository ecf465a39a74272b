// Ready models: what they share, and the plain JSON that builds one again.
import { kindError, phrase } from '../errors.js';
import type { Tensor } from '../tensor.js';
import { Module } from './module.js';

/** What a ready model computes of a batch. */
export interface ModelOutput {
  /** [..., classes or vocabulary]. */
  logits: Tensor;
  /** Inner values in the order they are computed, of the shapes that {@link Model.featureShapes} says. */
  features: Tensor[];
  /** What the output layer reads, [..., width]: with its weight, the arguments of linearKdLoss. */
  hidden: Tensor;
  /** Logits of every head, where there are several: exits from the first to the last, or the two of a dual head. */
  exits?: Tensor[];
}

/** A model with known parts. {@link config} and a state are all it takes to have it again, pruned or not. */
export abstract class Model extends Module {
  constructor() {
    super();
    if ((new.target as unknown) === Model)
      throw kindError(
        'make a Model',
        'it must be of a class that extends it (MLP, CNN, GPT or one of your own)',
        phrase('it is Model itself'),
      );
  }

  /** Plain JSON from which `nn.build` makes a model of these shapes. Computed from the weights as they are now. */
  abstract readonly config: { readonly kind: string };

  /** The shape of one example, without the batch. */
  abstract readonly inputShape: readonly number[];

  /** Whether inputs are token numbers (int32) rather than float32. */
  get takesIds(): boolean {
    return false;
  }

  /** Classes or vocabulary. */
  abstract readonly outputs: number;

  /** Columns of what the output layer reads. */
  abstract readonly hiddenWidth: number;

  /** Shapes of the features without the batch: [width], [channels, height, width] or [context, width]. */
  abstract readonly featureShapes: readonly (readonly number[])[];

  /** Logits together with what was computed on the way. */
  abstract forwardWithFeatures(x: Tensor): ModelOutput;

  override forward(x: Tensor): Tensor {
    return this.forwardWithFeatures(x).logits;
  }

  /** Width of each feature: columns, channels, or the width of a token. */
  get featureWidths(): number[] {
    return this.featureShapes.map((shape) => (shape.length === 3 ? shape[0]! : shape[shape.length - 1]!));
  }

  /** Writes the parameters to a safetensors file with the config beside them, so that `nn.load` can build the model from it. */
  override save(path: string, metadata?: Record<string, string>): void {
    super.save(path, { ...metadata, [configKey]: JSON.stringify(this.config) });
  }
}

/** Where a file of {@link Model.save} keeps the config. */
export const configKey = 'limbeck.config';
