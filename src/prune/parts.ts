// Parts of a model that can be taken out, and where the weights of each lie.
import type { TypedArray } from '../dtypes.js';
import { phrase, valueError } from '../errors.js';
import type { Module } from '../nn/index.js';
import type * as nn from '../nn/index.js';

/** What structured pruning can take out of a model. */
export type Structure = 'units' | 'heads' | 'channels' | 'layers' | 'width';

/** The names of {@link Structure}. */
export const structures: readonly Structure[] = ['units', 'heads', 'channels', 'layers', 'width'];

/**
 * Weights of a group's parts in one parameter. `'makes'`: they compute the part; `'reads'`: they take it in. Either the parameter
 * belongs to one part as a whole, or part u has the indices o + u·size … o + (u+1)·size − 1 along the axis, for each offset o.
 */
export type Slice = { parameter: string; role: 'makes' | 'reads' } & (
  { part: number } | { axis: number; offsets: readonly number[]; size: number }
);

/** Where the activations of a group's parts are seen. */
export type Seen =
  /** In what a module is given or gives: along the last dimension or the channels of images, each part `size` wide. */
  | { kind: 'values'; module: Module; at: 'input' | 'output'; axis: 'last' | 'channels'; size: number }
  /** Part u is what lies between the inputs of modules u and u + 1. */
  | { kind: 'between'; modules: readonly Module[] };

/** Parts that are taken out one by one, with all the weights that belong to each: the units of a hidden layer, the heads of a block. */
export interface PartGroup {
  /** Unique within the model: the module that makes the parts. */
  name: string;
  structure: Structure;
  count: number;
  slices: readonly Slice[];
  seen: readonly Seen[];
  /** Puts the parts that stay into the config of a ready model. */
  resize: (config: nn.ModelConfig, parts: readonly number[]) => void;
  /** The name of a parameter in the smaller model, null where it goes. Default: all names stay. */
  renamed?: (parameter: string, parts: readonly number[]) => string | null;
}

/** Which parts of each group stay, in order. */
export type Kept = ReadonlyMap<string, readonly number[]>;

/** The numbers 0 … count − 1. */
export const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

/** Places in a parameter's memory that belong to some parts of a slice: each range [from, to). */
export function* placesOf(slice: Slice, parts: readonly number[], shape: readonly number[]): Generator<[number, number]> {
  const size = shape.reduce((product, extent) => product * extent, 1);
  if ('part' in slice) {
    if (parts.includes(slice.part)) yield [0, size];
    return;
  }
  const stride = shape.slice(slice.axis + 1).reduce((product, extent) => product * extent, 1);
  const step = stride * shape[slice.axis]!;
  for (const part of parts) {
    for (const offset of slice.offsets) {
      const first = (offset + part * slice.size) * stride;
      for (let from = first; from < size; from += step) yield [from, from + slice.size * stride];
    }
  }
}

/** Those of an array's elements that have a kept index along every axis; null keeps all. */
export function narrowed<T extends TypedArray>(values: T, shape: readonly number[], kept: readonly (readonly number[] | null)[]): T {
  const axes = shape.map((extent, axis) => kept[axis] ?? range(extent));
  const out = new (values.constructor as new (size: number) => T)(axes.reduce((product, indices) => product * indices.length, 1));
  let at = 0;
  const walk = (axis: number, base: number): void => {
    if (axis === shape.length) {
      out[at++] = values[base]!;
      return;
    }
    const stride = shape.slice(axis + 1).reduce((product, extent) => product * extent, 1);
    for (const index of axes[axis]!) walk(axis + 1, base + index * stride);
  };
  walk(0, 0);
  return out;
}

/** For each parameter, which indices stay along each of its axes; null for all. */
export function keptIndices(model: Module, groups: readonly PartGroup[], kept: Kept): Map<string, (readonly number[] | null)[]> {
  const shapes = new Map([...model.namedParameters()].map(([name, parameter]) => [name, parameter.shape]));
  const indices = new Map<string, (readonly number[] | null)[]>();
  for (const group of groups) {
    const parts = kept.get(group.name);
    if (parts === undefined) continue;
    const gone = range(group.count).filter((part) => !parts.includes(part));
    for (const slice of group.slices) {
      if ('part' in slice) continue;
      const shape = shapes.get(slice.parameter)!;
      const all = indices.get(slice.parameter) ?? shape.map(() => null);
      const without = new Set(
        slice.offsets.flatMap((offset) => gone.flatMap((part) => range(slice.size).map((i) => offset + part * slice.size + i))),
      );
      all[slice.axis] = (all[slice.axis] ?? range(shape[slice.axis]!)).filter((i) => !without.has(i));
      indices.set(slice.parameter, all);
    }
  }
  return indices;
}

/** Checks which parts stay: groups that are there, at least one part each, in order. */
export function checkKept(groups: readonly PartGroup[], kept: Kept): void {
  const action = 'prune';
  for (const [name, parts] of kept) {
    const group = groups.find((each) => each.name === name);
    if (group === undefined) throw valueError(action, `groups must be among ${groups.map((each) => each.name).join(', ')}`, name);
    const fits = (part: number, i: number): boolean =>
      Number.isInteger(part) && part >= 0 && part < group.count && (i === 0 || part > parts[i - 1]!);
    if (parts.length === 0 || !parts.every(fits)) {
      throw valueError(
        action,
        `the parts that stay of ${name} must be whole numbers below ${group.count}, rising, at least one`,
        phrase(parts.length === 0 ? 'there is none' : `they are ${parts.slice(0, 8).join(', ')}${parts.length > 8 ? ', …' : ''}`),
      );
    }
  }
}
