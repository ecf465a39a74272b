// Modules and layers.
export { Module } from './module.js';
export { Dropout, Linear, ReLU, Sequential, type LinearOptions } from './layers.js';
export { deriveSeed } from './seed.js';
