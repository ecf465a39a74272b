// Modules, layers and ready models.
export { Module } from './module.js';
export {
  Dropout,
  Embedding,
  Flatten,
  Linear,
  ReLU,
  Residual,
  Sequential,
  Tanh,
  type EmbeddingOptions,
  type LinearOptions,
} from './layers.js';
export type { ActivationName } from './activations.js';
export { Model, type ModelOutput } from './model.js';
export { MLP, type MLPConfig, type MLPOptions } from './mlp.js';
export { DualHead, MultiExit, type DualHeadConfig, type HeadOptions, type MultiExitConfig } from './heads.js';
export { build, load, type ModelConfig } from './build.js';
export { deriveSeed } from './seed.js';
