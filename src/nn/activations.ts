// Activations by name.
import { GELU, ReLU, SiLU, Tanh } from './layers.js';
import type { Module } from './module.js';

const activations = { relu: ReLU, gelu: GELU, silu: SiLU, tanh: Tanh } as const;

/** What stands between the linear layers of a ready model. */
export type ActivationName = keyof typeof activations;

export const activationNames = Object.keys(activations) as ActivationName[];

export function makeActivation(name: ActivationName): Module {
  return new activations[name]();
}

/** The name of an activation, undefined for any other module. */
export function activationOf(module: Module): ActivationName | undefined {
  return activationNames.find((name) => module instanceof activations[name]);
}
