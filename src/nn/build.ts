// Ready models from their config, and from files that carry one.
import type { Device } from '../device.js';
import { checkOptions } from '../check.js';
import { kindError, nearest, phrase, valueError } from '../errors.js';
import { badFile, readSafetensors } from '../safetensors.js';
import { DualHead, MultiExit, type DualHeadConfig, type HeadOptions, type MultiExitConfig } from './heads.js';
import { CNN, type CNNConfig } from './cnn.js';
import { GPT, type GPTConfig } from './gpt.js';
import { MLP, type MLPConfig } from './mlp.js';
import { configKey, type Model } from './model.js';
import { deriveSeed } from './seed.js';

/** What {@link build} makes a model from. */
export type ModelConfig = MLPConfig | CNNConfig | GPTConfig | MultiExitConfig<ModelConfig> | DualHeadConfig<ModelConfig>;

/** The class of each kind. */
export interface ModelsByKind {
  mlp: MLP;
  cnn: CNN;
  gpt: GPT;
  multi_exit: MultiExit;
  dual_head: DualHead;
}

/** The class that a config makes; of a config of any kind, a ready model. */
export type ModelOf<C extends ModelConfig> = ModelConfig extends C ? Model : ModelsByKind[C['kind']];

const builders: { [K in ModelConfig['kind']]: (config: Extract<ModelConfig, { kind: K }>, options: HeadOptions) => ModelsByKind[K] } = {
  mlp: (config, options) => new MLP({ ...config, ...options }),
  cnn: (config, options) => new CNN({ ...config, ...options }),
  gpt: (config, options) => new GPT({ ...config, ...options }),
  multi_exit: (config, options) => {
    const { model, exits } = checkOptions('make a MultiExit', config, ['kind', 'model', 'exits']);
    return new MultiExit(build(model, inner(options)), { exits, ...options });
  },
  dual_head: (config, options) => {
    const { model, alpha, beta } = checkOptions('make a DualHead', config, ['kind', 'model', 'alpha', 'beta']);
    return new DualHead(build(model, inner(options)), { alpha, beta, ...options });
  },
};

// The heads take the seed as it is; what they stand on has one of its own.
function inner(options: HeadOptions): HeadOptions {
  return options.seed === undefined ? options : { ...options, seed: deriveSeed(options.seed, 'model') };
}

/**
 * A ready model from plain JSON, as `model.config` gives it; fields that may be left out take their defaults.
 *
 * @param options.seed the same seed and config, the same weights, on every device
 * @throws RangeError for a kind that there is none of, and for whatever the model's constructor refuses
 *
 * @example
 * const model = nn.build({ kind: 'mlp', inputs: 784, hidden: [32], outputs: 10 }, { seed: 1 });
 */
export function build<C extends ModelConfig>(config: C, options?: HeadOptions): ModelOf<C> {
  const action = 'build a model';
  if (config === null || typeof config !== 'object') throw kindError(action, 'config must be an object', config);
  const { seed, device } = checkOptions(action, options, ['seed', 'device']);
  const kind: unknown = config.kind;
  const kinds = Object.keys(builders);
  if (typeof kind !== 'string') throw kindError(action, `kind must be one of ${kinds.join(', ')}`, kind);
  if (!Object.hasOwn(builders, kind)) {
    const near = nearest(kind, kinds);
    const hint = near === undefined ? '' : `; did you mean '${near}'?`;
    throw valueError(action, `kind must be one of ${kinds.join(', ')}`, phrase(`it is '${String(kind).slice(0, 60)}'${hint}`));
  }
  return (builders[kind as C['kind']] as (config: ModelConfig, options: HeadOptions) => ModelOf<C>)(config, {
    ...(seed === undefined ? {} : { seed }),
    ...(device === undefined ? {} : { device }),
  });
}

/**
 * The ready model that a file of `model.save` holds: built from the config beside the weights, pruned shapes and all.
 *
 * @throws LimbeckError `bad_file` where it has no config, or weights that do not fit it
 */
export function load(path: string, options?: { device?: Device }): Model {
  const { device } = checkOptions('load a model', options, ['device']);
  const { tensors, metadata } = readSafetensors(path);
  const text = metadata[configKey];
  if (text === undefined) throw badFile(path, `it must have been written by a ready model's save()`, `its metadata has no '${configKey}'`);
  let model: Model;
  try {
    model = build(JSON.parse(text) as ModelConfig, { seed: 0, ...(device === undefined ? {} : { device }) });
  } catch (error) {
    throw badFile(path, `'${configKey}' in its metadata must be the config of a model`, (error as Error).message, error);
  }
  try {
    model.loadStateDict(Object.fromEntries(tensors));
  } catch (error) {
    model.dispose();
    if (!(error instanceof RangeError)) throw error;
    throw badFile(path, 'its tensors must fit its config', error.message, error);
  }
  return model;
}
