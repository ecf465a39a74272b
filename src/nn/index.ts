// Modules, layers and ready models.
export { Module } from './module.js';
export type { PyTorchEntry, PyTorchLoaded, PyTorchOptions } from './pytorch.js';
export {
  Dropout,
  Embedding,
  Flatten,
  GELU,
  Linear,
  ReLU,
  Residual,
  Sequential,
  SiLU,
  Tanh,
  type EmbeddingOptions,
  type LinearOptions,
} from './layers.js';
export { LayerNorm, RMSNorm } from './norm.js';
export { AvgPool2d, Conv2d, GlobalAvgPool2d, MaxPool2d, type Conv2dLayerOptions } from './convolution.js';
export { CausalSelfAttention, type SelfAttentionOptions } from './attention.js';
export type { ActivationName } from './activations.js';
export { Model, type ModelOutput } from './model.js';
export { MLP, type MLPConfig, type MLPOptions } from './mlp.js';
export { CNN, type CNNConfig, type CNNOptions } from './cnn.js';
export { GPT, GPTBlock, type GenerateOptions, type GPTBlockConfig, type GPTConfig, type GPTOptions, type GPTOutput } from './gpt.js';
export { DualHead, MultiExit, type DualHeadConfig, type HeadOptions, type MultiExitConfig } from './heads.js';
export { build, load, type ModelConfig, type ModelOf, type ModelsByKind } from './build.js';
export { deriveSeed } from './seed.js';
