// Which parts of a model can be taken out, and where the weights of each lie.
import type { TypedArray } from '../dtypes.js';
import { kindError, phrase, valueError } from '../errors.js';
import { Dropout, Linear, Module, ReLU, Sequential } from '../nn/index.js';
import { keep } from '../autograd.js';
import { Tensor, tensor } from '../tensor.js';
import type { StoredTensor } from '../safetensors.js';

/** What structured pruning can take out of a model. */
export type Structure = 'units' | 'heads' | 'channels' | 'layers' | 'width';

/** The names of {@link Structure}. */
export const structures: readonly Structure[] = ['units', 'heads', 'channels', 'layers', 'width'];

/** Where the weights of a group's parts lie in one parameter: part u has the indices o + u·size … o + (u+1)·size − 1 for each offset o. */
export interface Slice {
  parameter: string;
  axis: number;
  /** `'makes'`: these weights compute the part; `'reads'`: these take it in. */
  role: 'makes' | 'reads';
  offsets: readonly number[];
  size: number;
}

/** Parts that are taken out one by one, with all the weights that belong to each: the units of a hidden layer, the heads of a block. */
export interface PartGroup {
  /** Unique within the model: the module that makes the parts. */
  name: string;
  structure: Structure;
  count: number;
  slices: readonly Slice[];
  /** The modules whose input (or output) shows the parts' activations, along `axis`, each part `size` wide. */
  seen: readonly { module: Module; at: 'input' | 'output'; axis: 'last' | 'channels'; size: number }[];
}

/** Which parts of each group stay, in order. */
export type Kept = ReadonlyMap<string, readonly number[]>;

/** All indices along a slice's axis that belong to the given parts, in order. */
export function indicesOf(slice: Slice, parts: readonly number[]): number[] {
  return slice.offsets.flatMap((offset) =>
    parts.flatMap((part) => Array.from({ length: slice.size }, (_, i) => offset + part * slice.size + i)),
  );
}

const action = 'prune';

/** The groups of parts of a model. @throws TypeError for a model that has no such parts */
export function partGroups(model: Module, structure: Structure): PartGroup[] {
  const groups = model instanceof Sequential ? chainGroups(model) : [];
  const found = groups.filter((group) => group.structure === structure);
  if (found.length > 0) return found;
  throw kindError(
    action,
    `the model must have ${structure} that can be taken out (nn.Sequential of Linear layers)`,
    phrase(`it is a ${model.constructor.name.replace(/^_/, '')}${groups.length > 0 ? `, which has ${groups[0]!.structure}` : ''}`),
  );
}

// ---- Sequential: what one layer makes, the next one reads, with only element-wise modules between

/** The modules of nested Sequentials one after the other, with their names. */
function chainOf(model: Sequential, prefix = ''): [string, Module][] {
  return model.layers.flatMap((layer, i): [string, Module][] => {
    const name = `${prefix}layers.${i}`;
    return layer instanceof Sequential ? chainOf(layer, `${name}.`) : [[name, layer]];
  });
}

function chainGroups(model: Sequential): PartGroup[] {
  const groups: PartGroup[] = [];
  let maker: { name: string; layer: Linear } | null = null;
  for (const [name, layer] of chainOf(model)) {
    if (layer instanceof Linear) {
      if (maker !== null) groups.push(unitGroup(maker.name, maker.layer, name, layer));
      maker = { name, layer };
    } else if (!(layer instanceof ReLU || layer instanceof Dropout)) maker = null;
  }
  return groups;
}

function unitGroup(makerName: string, maker: Linear, readerName: string, reader: Linear): PartGroup {
  const own = { role: 'makes', axis: 0, offsets: [0], size: 1 } as const;
  return {
    name: makerName,
    structure: 'units',
    count: maker.weight.shape[0]!,
    slices: [
      { parameter: `${makerName}.weight`, ...own },
      ...(maker.bias === null ? [] : [{ parameter: `${makerName}.bias`, ...own }]),
      { parameter: `${readerName}.weight`, role: 'reads', axis: 1, offsets: [0], size: 1 },
    ],
    seen: [{ module: reader, at: 'input', axis: 'last', size: 1 }],
  };
}

// ---- a smaller model

/** Those of an array's elements that have a kept index along every axis; null keeps all. */
export function narrowed<T extends TypedArray>(values: T, shape: readonly number[], kept: readonly (readonly number[] | null)[]): T {
  const axes = shape.map((extent, axis) => kept[axis] ?? Array.from({ length: extent }, (_, i) => i));
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
    for (const slice of group.slices) {
      const shape = shapes.get(slice.parameter)!;
      const all = indices.get(slice.parameter) ?? shape.map(() => null);
      const own = new Set(indicesOf(slice, parts));
      // Indices that belong to no part (there are none of them today) stay.
      const theirs = new Set(
        indicesOf(
          slice,
          Array.from({ length: group.count }, (_, i) => i),
        ),
      );
      const before = all[slice.axis] ?? Array.from({ length: shape[slice.axis]! }, (_, i) => i);
      all[slice.axis] = before.filter((i) => own.has(i) || !theirs.has(i));
      indices.set(slice.parameter, all);
    }
  }
  return indices;
}

/** Checks which parts stay: groups that are there, at least one part each, in order. */
export function checkKept(groups: readonly PartGroup[], kept: Kept): void {
  for (const [name, parts] of kept) {
    const group = groups.find((each) => each.name === name);
    if (group === undefined) throw valueError(action, `groups must be among ${groups.map((each) => each.name).join(', ')}`, name);
    const isSorted = parts.every(
      (part, i) => Number.isInteger(part) && part >= 0 && part < group.count && (i === 0 || part > parts[i - 1]!),
    );
    if (!isSorted || parts.length === 0) {
      throw valueError(
        action,
        `the parts that stay of ${name} must be whole numbers below ${group.count}, rising, at least one`,
        phrase(parts.length === 0 ? 'there is none' : `they are ${parts.slice(0, 8).join(', ')}${parts.length > 8 ? ', …' : ''}`),
      );
    }
  }
}

/** A copy of a module and all inside it, its parameters those of the state, whatever their shapes. What else its fields hold is shared. */
export function copyWith<M extends Module>(module: M, state: Record<string, StoredTensor>, prefix = ''): M {
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
