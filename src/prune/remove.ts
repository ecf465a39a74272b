// Takes parts out of a model: a new, smaller model with the weights that are left.
import { checkOptions } from '../check.js';
import { kindError, valueError, phrase } from '../errors.js';
import { Module } from '../nn/index.js';
import type { StoredTensor } from '../safetensors.js';
import type { Masks } from './masks.js';
import { checkKept, copyWith, indicesOf, keptIndices, narrowed, partGroups, type Kept, type PartGroup, type Structure } from './parts.js';

const action = 'remove parts';

/** What {@link keepParts} gives back. */
export interface Smaller<M extends Module> {
  /** Of the same class; the model it came from stays as it is. */
  model: M;
  /** The earlier masks, cut to the new shapes. */
  masks: Masks;
}

/**
 * A new model of the same class with only the given parts (units of hidden layers, ...) and their weights.
 *
 * Where a removed part contributed 0 the outputs stay the same: removal is what {@link partMasks} does, and smaller.
 *
 * @param kept which parts of each group stay, in order; groups that are not named stay whole
 * @param options.masks masks of weights that go along, by the model's parameter names
 * @throws TypeError for a model without such parts, RangeError for a group or part that is not there
 */
export function keepParts<M extends Module>(model: M, structure: Structure, kept: Kept, options?: { masks?: Masks }): Smaller<M> {
  const { masks = new Map() } = checkOptions(action, options, ['masks']);
  const groups = checkedGroups(model, structure, kept);
  const indices = keptIndices(model, groups, kept);
  const state: Record<string, StoredTensor> = {};
  const cut = new Map<string, Float32Array>();
  for (const [name, { dtype, shape, data }] of Object.entries(model.stateDict())) {
    const along = indices.get(name) ?? [];
    const mask = masks.get(name);
    if (mask !== undefined) cut.set(name, narrowed(mask, shape, along));
    const left = shape.map((extent, axis) => along[axis]?.length ?? extent);
    state[name] = { dtype, shape: left, data: narrowed(data, shape, along) };
  }
  return { model: copyWith(model, state), masks: cut };
}

/** Masks that hold at zero all weights of the parts that do not stay, in a model of full size. */
export function partMasks(model: Module, structure: Structure, kept: Kept): Masks {
  const groups = checkedGroups(model, structure, kept);
  const shapes = new Map([...model.namedParameters()].map(([name, parameter]) => [name, parameter.shape]));
  const masks = new Map<string, Float32Array>();
  for (const group of groups) {
    const parts = kept.get(group.name);
    if (parts === undefined) continue;
    const gone = Array.from({ length: group.count }, (_, i) => i).filter((i) => !parts.includes(i));
    for (const slice of group.slices) {
      const shape = shapes.get(slice.parameter)!;
      const mask = masks.get(slice.parameter) ?? new Float32Array(shape.reduce((product, extent) => product * extent, 1)).fill(1);
      const stride = shape.slice(slice.axis + 1).reduce((product, extent) => product * extent, 1);
      const step = stride * shape[slice.axis]!;
      for (const index of indicesOf(slice, gone)) {
        for (let from = index * stride; from < mask.length; from += step) mask.fill(0, from, from + stride);
      }
      masks.set(slice.parameter, mask);
    }
  }
  return masks;
}

function checkedGroups(model: Module, structure: Structure, kept: Kept): PartGroup[] {
  if (!(model instanceof Module)) throw kindError(action, 'model must be a Module', model);
  if (!(kept instanceof Map)) throw kindError(action, 'kept must be a Map of part numbers by group', kept);
  if (kept.size === 0) throw valueError(action, 'kept must name a group', phrase('it is empty'));
  const groups = partGroups(model, structure);
  checkKept(groups, kept);
  return groups;
}
