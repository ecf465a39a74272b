// Makes the models of a recipe, keeps their shape beside their weights, and runs them.
import type { Device } from '../device.js';
import { build, type ModelConfig } from '../nn/build.js';
import { configKey, Model } from '../nn/model.js';
import type { Module } from '../nn/module.js';
import { badFile, readSafetensors, writeSafetensors } from '../safetensors.js';
import { hostCopy, type Tensor } from '../tensor.js';
import type { DataSource } from './source.js';
import type { ModelSpec } from './spec.js';
import type { StudentOutput } from './stage_loss/index.js';

/** Makes a model that a recipe written in TypeScript brings; the same seed must give the same weights. */
export type ModelMaker = (environment: { source: DataSource; seed: number; device: Device; options: Record<string, unknown> }) => Module;

/** What the shape of a model depends on besides its spec. */
export interface BuildEnvironment {
  source: DataSource;
  device: Device;
  models?: Readonly<Record<string, ModelMaker>>;
}

/** A model of the recipe; the same spec, data sizes and seed give the same weights. */
export function makeModel(spec: ModelSpec, seed: number, { source, device, models = {} }: BuildEnvironment): Module {
  if (spec.kind === 'custom') {
    const make = models[spec.name];
    if (!make)
      throw new TypeError(
        `Cannot make a model: custom.models must hold "${spec.name}": it holds ${Object.keys(models).join(', ') || 'none'}`,
      );
    return make({ source, seed, device, options: spec.options ?? {} });
  }
  const { exits, dualHead = false } = spec;
  const one = configOf(spec, source);
  const config: ModelConfig = dualHead
    ? { kind: 'dual_head', model: one }
    : exits === undefined
      ? one
      : { kind: 'multi_exit', model: one, exits: [...exits].sort((a, b) => a - b) };
  return build(config, { seed, device });
}

/** The shape of a model with one head. */
function configOf(spec: Exclude<ModelSpec, { kind: 'custom' }>, source: DataSource): ModelConfig {
  const refuse = (what: string): never => {
    throw new RangeError(`Cannot make a model: kind "${spec.kind}" must be given ${what}: the data are ${source.kind}`);
  };
  switch (spec.kind) {
    case 'mlp': {
      const { hidden, dropout, inputDropout } = spec;
      if (source.kind === 'text') return refuse('rows of numbers');
      const inputs = source.inputShape.reduce((product, extent) => product * extent, 1);
      return { kind: 'mlp', inputs, hidden, outputs: source.cols, dropout, inputDropout };
    }
    case 'cnn': {
      const { channels, hidden, dropout } = spec;
      const { imageShape } = source;
      if (!imageShape) return refuse('images');
      return { kind: 'cnn', inputShape: [...imageShape], channels, hidden, classes: source.cols, dropout };
    }
    case 'gpt': {
      const { layers, heads, width, mlpWidth, dropout } = spec;
      if (source.kind === 'images') return refuse('tokens');
      const sizes = { vocabulary: source.cols, context: source.inputShape[0]! };
      return { kind: 'gpt', ...sizes, layers, heads, width, dropout, ...(mlpWidth === undefined ? {} : { mlpWidth }) };
    }
  }
}

/** What a model says of an input, a row of logits for each label. */
export function output(model: Module, input: Tensor, cols: number, features = false): StudentOutput {
  const rows = (logits: Tensor): Tensor => (logits.shape.length === 2 ? logits : logits.reshape([logits.size / cols, cols]));
  if (!features || !hasFeatures(model)) return { logits: rows(model.forward(input)), features: [] };
  const { logits, features: inner, exits } = model.forwardWithFeatures(input);
  return { logits: rows(logits), features: inner, ...(exits ? { exits: exits.map(rows) } : {}) };
}

// Models that a caller brings may have features without being ready ones.
function hasFeatures(model: Module): model is Module & Pick<Model, 'forwardWithFeatures'> {
  return typeof (model as Partial<Model>).forwardWithFeatures === 'function';
}

/** What is known of a model beside its weights. */
export interface Kept {
  /** Of the recipe's models. */
  name: string;
  seed: number;
  /** Weights that are held at zero, by parameter name: 1 keeps. */
  masks: ReadonlyMap<string, Float32Array> | null;
  /** How many units, heads, … there were before any was taken out. */
  original?: Readonly<Record<string, number>>;
}

/** Writes a model's weights with what rebuilds it. */
export function saveModel(path: string, model: Module, kept: Kept, words: Record<string, string>): void {
  writeSafetensors(path, model.stateDict(), { ...words, ...describeModel(model, kept) });
}

/** A model's shape and what was pruned of it, as words of a file; `nn.load` reads such a file too. */
export function describeModel(model: Module, { name, seed, masks, original }: Kept): Record<string, string> {
  return {
    model: name,
    modelSeed: String(seed),
    ...(model instanceof Model ? { [configKey]: JSON.stringify(model.config) } : {}),
    ...(masks ? { masked: JSON.stringify([...masks.keys()]) } : {}),
    ...(original ? { original: JSON.stringify(original) } : {}),
  };
}

/** Makes the model that a file describes, of the shape that it has there; its weights are not those of the file yet. */
export function modelOf(
  path: string,
  metadata: Record<string, string>,
  specs: Readonly<Record<string, ModelSpec>>,
  environment: BuildEnvironment,
): Module {
  const seed = Number(metadata['modelSeed'] ?? 0);
  const config = metadata[configKey];
  if (config !== undefined) return build(JSON.parse(config) as ModelConfig, { seed, device: environment.device });
  const name = metadata['model'] ?? '';
  const spec = specs[name];
  if (!spec) throw badFile(path, 'it must be a checkpoint of this recipe', `its model is "${name}"`);
  return makeModel(spec, seed, environment);
}

/**
 * The same model, made the way {@link modelOf} makes it from a file: a run that goes on from one and a run that never stopped
 * then draw the same numbers for dropout.
 */
export function asFromFile(model: Module, { seed }: Kept, device: Device): Module {
  if (!(model instanceof Model)) return model;
  const again = build(model.config as ModelConfig, { seed, device });
  again.loadStateDict(model.stateDict());
  model.dispose();
  return again;
}

/** A model from its checkpoint. */
export function loadModel(
  path: string,
  specs: Readonly<Record<string, ModelSpec>>,
  environment: BuildEnvironment,
): { model: Module; kept: Kept } {
  const { tensors, metadata } = readSafetensors(path);
  const model = modelOf(path, metadata, specs, environment);
  model.loadStateDict(Object.fromEntries(tensors));
  const original = metadata['original'];
  return {
    model,
    kept: {
      name: metadata['model']!,
      seed: Number(metadata['modelSeed']),
      masks: metadata['masked'] === undefined ? null : masksOf(model, JSON.parse(metadata['masked']) as string[]),
      ...(original === undefined ? {} : { original: JSON.parse(original) as Record<string, number> }),
    },
  };
}

// What was cut is zero in the file, and what is zero there was cut.
function masksOf(model: Module, names: readonly string[]): Map<string, Float32Array> {
  const parameters = new Map(model.namedParameters());
  return new Map(
    names.map((name) => [
      name,
      Float32Array.from(hostCopy(parameters.get(name)!, 'read masks') as Float32Array, (weight) => (weight === 0 ? 0 : 1)),
    ]),
  );
}
