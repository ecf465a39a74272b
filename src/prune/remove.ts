// Takes parts out of a model: a new, smaller model with the weights that are left.
import { keep } from '../autograd.js';
import { checkOptions } from '../check.js';
import { kindError, valueError, phrase } from '../errors.js';
import { build, Dropout, Model, Module, type ModelConfig } from '../nn/index.js';
import type { StoredTensor } from '../safetensors.js';
import { Tensor, tensor } from '../tensor.js';
import { partGroups } from './groups.js';
import type { Masks } from './masks.js';
import { checkKept, keptIndices, narrowed, placesOf, range, type Kept, type PartGroup, type Structure } from './parts.js';

const action = 'remove parts';

/** What {@link keepParts} gives back. */
export interface Smaller<M extends Module> {
  /** Of the same class; the model it came from stays as it is. */
  model: M;
  /** The earlier masks, cut to the new shapes. */
  masks: Masks;
}

/**
 * A new model of the same class with only the given parts and their weights: units of hidden layers, channels of convolutions, and of
 * a GPT heads, layers and the width of the residual stream.
 *
 * Where a removed part contributed 0 the outputs stay the same: removal is what {@link partMasks} does, and smaller. Width is the
 * exception: normalisation takes its mean over the channels that are left.
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
    const left = groups.reduce<string | null>((now, { name: group, renamed }) => {
      const parts = kept.get(group);
      return now === null || parts === undefined || renamed === undefined ? now : renamed(now, parts);
    }, name);
    if (left === null) continue;
    const along = indices.get(name) ?? [];
    const mask = masks.get(name);
    if (mask !== undefined) cut.set(left, narrowed(mask, shape, along));
    state[left] = { dtype, shape: shape.map((extent, axis) => along[axis]?.length ?? extent), data: narrowed(data, shape, along) };
  }
  return { model: model instanceof Model ? rebuilt(model, groups, kept, state) : copyWith(model, state), masks: cut };
}

/** A ready model of the shapes that are left. */
function rebuilt<M extends Model>(model: M, groups: readonly PartGroup[], kept: Kept, state: Record<string, StoredTensor>): M {
  const config = structuredClone(model.config) as ModelConfig;
  for (const group of groups) {
    const parts = kept.get(group.name);
    if (parts !== undefined) group.resize(config, parts);
  }
  const device = model.parameters()[0]!.device;
  const smaller = build(config, { seed: dropoutSeed(model), device });
  smaller.loadStateDict(state);
  return smaller.train(model.training) as M;
}

/** A seed for the smaller model's dropout that goes with the model's own: same model, same smaller one. */
function dropoutSeed(model: Module): number {
  for (const [, module] of model.modules()) if (module instanceof Dropout) return module.seed;
  return 0;
}

/** A copy of a module and all inside it, its parameters those of the state, whatever their shapes. What else its fields hold is shared. */
function copyWith<M extends Module>(module: M, state: Record<string, StoredTensor>, prefix = ''): M {
  const copy = Object.create(Object.getPrototypeOf(module) as object) as M;
  const renewed = (name: string, value: unknown): unknown => {
    if (value instanceof Module) return copyWith(value, state, `${name}.`);
    if (Array.isArray(value)) return value.map((entry: unknown, i) => renewed(`${name}.${i}`, entry));
    const stored = value instanceof Tensor ? state[name] : undefined;
    if (stored === undefined) return value;
    const { device } = value as Tensor;
    return keep(tensor(stored.data, { shape: stored.shape, dtype: stored.dtype, device, requiresGrad: true }));
  };
  for (const [name, value] of Object.entries(module)) Object.assign(copy, { [name]: renewed(prefix + name, value) });
  return copy;
}

/** Masks that hold at zero all weights of the parts that do not stay, in a model of full size. */
export function partMasks(model: Module, structure: Structure, kept: Kept): Masks {
  const groups = checkedGroups(model, structure, kept);
  const shapes = new Map([...model.namedParameters()].map(([name, parameter]) => [name, parameter.shape]));
  const masks = new Map<string, Float32Array>();
  for (const group of groups) {
    const parts = kept.get(group.name);
    if (parts === undefined) continue;
    const gone = range(group.count).filter((part) => !parts.includes(part));
    for (const slice of group.slices) {
      const shape = shapes.get(slice.parameter)!;
      const mask = masks.get(slice.parameter) ?? new Float32Array(shape.reduce((product, extent) => product * extent, 1)).fill(1);
      for (const [from, to] of placesOf(slice, gone, shape)) mask.fill(0, from, to);
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
