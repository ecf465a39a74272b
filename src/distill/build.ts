// Makes the models of a recipe, keeps their shape beside their weights, and runs them.
import type { Device } from '../device.js';
import { LimbeckError } from '../errors.js';
import type { Module } from '../nn/index.js';
import { badFile, readSafetensors, writeSafetensors } from '../safetensors.js';
import { hostCopy, type Tensor } from '../tensor.js';
import { buildModel } from './model.js';
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
  switch (spec.kind) {
    case 'mlp':
      return buildModel(spec, source.inputShape[0]!, source.cols, seed, device);
    case 'custom': {
      const make = models[spec.name];
      if (!make)
        throw new TypeError(
          `Cannot make a model: custom.models must hold "${spec.name}": it holds ${Object.keys(models).join(', ') || 'none'}`,
        );
      return make({ source, seed, device, options: spec.options ?? {} });
    }
    default:
      throw new LimbeckError('not_available', `Cannot make a model: kind "${spec.kind}" is not available yet`);
  }
}

/** What a model says of an input, a row of logits for each label. */
export function output(model: Module, input: Tensor, cols: number, features = false): StudentOutput {
  const withFeatures = model as Module & { forwardWithFeatures?: (x: Tensor) => StudentOutput };
  const rows = (logits: Tensor): Tensor => (logits.shape.length === 2 ? logits : logits.reshape([logits.size / cols, cols]));
  if (typeof withFeatures.forwardWithFeatures !== 'function' || !features) return { logits: rows(model.forward(input)), features: [] };
  const { logits, features: inner, exits } = withFeatures.forwardWithFeatures(input);
  return { logits: rows(logits), features: inner, ...(exits ? { exits: exits.map(rows) } : {}) };
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

/** A model's shape and what was pruned of it, as words of a file. */
export function describeModel(model: Module, { name, seed, masks, original }: Kept): Record<string, string> {
  const { config } = model as { config?: unknown };
  return {
    model: name,
    modelSeed: String(seed),
    ...(config === undefined || original === undefined ? {} : { config: JSON.stringify(config) }),
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
  const name = metadata['model'] ?? '';
  const spec = specs[name];
  if (!spec) throw badFile(path, 'it must be a checkpoint of this recipe', `its model is "${name}"`);
  return makeModel(spec, Number(metadata['modelSeed'] ?? 0), environment);
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
