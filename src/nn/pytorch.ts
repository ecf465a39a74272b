// Parameters from safetensors files that PyTorch programs wrote: names mapped, half types widened.
import { checkBoolean, checkOptions, sameShape } from '../check.js';
import { arrayOf, convert, isFloating } from '../dtypes.js';
import { kindError, shapeText } from '../errors.js';
import { badFile, readForeignSafetensors, type StoredTensor } from '../safetensors.js';
import type { Tensor } from '../tensor.js';

/** Options of `loadPyTorch`. */
export interface PyTorchOptions {
  /** From the file's names to the model's: whole names or beginnings before a dot, or a function that gives null for what is left out. */
  rename?: Readonly<Record<string, string>> | ((name: string) => string | null);
  /** Every parameter must be in the file, and every tensor of the file used. Default true. */
  strict?: boolean;
}

/** What `loadPyTorch` gives back. */
export interface PyTorchLoaded {
  /** Parameters that the file does not have; they keep their values. */
  missing: string[];
  /** Tensors of the file, under its names, that the model has no place for. */
  unused: string[];
}

/** A tensor under the model's name for it, or null where it is known not to be needed. */
export type PyTorchEntry = readonly [name: string, stored: StoredTensor] | null;

interface Loadable {
  namedParameters(): Iterable<[string, Tensor]>;
  loadStateDict(state: Record<string, StoredTensor>): void;
  stateDict(): Record<string, StoredTensor>;
}

function renamer(rename: PyTorchOptions['rename']): (name: string) => string | null {
  if (typeof rename === 'function') {
    return (name) => {
      const to: unknown = rename(name);
      if (to !== null && typeof to !== 'string') throw kindError('load PyTorch weights', `rename('${name}') must be a name or null`, to);
      return to;
    };
  }
  if (rename === null || typeof rename !== 'object' || Object.values(rename).some((to) => typeof to !== 'string'))
    throw kindError('load PyTorch weights', 'rename must be names by name, or a function', rename);
  // The longest beginning wins.
  const rules = Object.entries(rename).sort(([a], [b]) => b.length - a.length);
  return (name) => {
    const rule = rules.find(([from]) => name === from || name.startsWith(`${from}.`));
    return rule === undefined ? name : rule[1] + name.slice(rule[0].length);
  };
}

/** See `Module.loadPyTorch`. */
export function loadPyTorch(
  module: Loadable,
  entryOf: (name: string, stored: StoredTensor) => PyTorchEntry,
  path: string,
  options?: PyTorchOptions,
): PyTorchLoaded {
  const action = 'load PyTorch weights';
  const { rename = {}, strict = true } = checkOptions(action, options, ['rename', 'strict']);
  checkBoolean(action, 'strict', strict);
  const renamed = renamer(rename);
  const { tensors, skipped } = readForeignSafetensors(path);
  const own = new Map(module.namedParameters());
  const state: Record<string, StoredTensor> = {};
  const unused = skipped.filter((name) => renamed(name) !== null);
  const wrong: string[] = [];
  for (const [name, stored] of tensors) {
    const ours = renamed(name);
    const entry = ours === null ? null : entryOf(ours, stored);
    if (entry === null) continue;
    const [to, value] = entry;
    const parameter = own.get(to);
    if (parameter === undefined) unused.push(name);
    else if (Object.hasOwn(state, to)) wrong.push(`'${name}' is '${to}', which another tensor is, too`);
    else if (!sameShape(value.shape, parameter.shape) || !isFloating(value.dtype)) {
      wrong.push(`'${name}' is ${value.dtype} ${shapeText(value.shape)}, '${to}' is ${parameter.dtype} ${shapeText(parameter.shape)}`);
    } else state[to] = asDType(value, parameter.dtype);
  }
  const missing = [...own.keys()].filter((name) => !Object.hasOwn(state, name));
  const problems = [
    ...(strict && missing.length > 0 && wrong.length === 0 ? [`the model's ${listed(missing)} must be in the file`] : []),
    ...(strict && unused.length > 0 ? [`the file's ${listed(unused)} must have a place in the model (rename, or strict: false)`] : []),
    ...wrong,
  ];
  if (problems.length > 0) throw badFile(path, 'its tensors must fit the model', problems.join('; '));
  if (Object.keys(state).length === 0 && own.size > 0)
    throw badFile(path, 'it must hold at least one parameter of the model', `its names are ${listed(unused)}`);
  module.loadStateDict(missing.length === 0 ? state : { ...module.stateDict(), ...state });
  return { missing, unused };
}

function asDType(stored: StoredTensor, dtype: StoredTensor['dtype']): StoredTensor {
  if (stored.dtype === dtype) return stored;
  const data = new arrayOf[dtype](stored.data.length);
  convert(stored.data, stored.dtype, data, dtype);
  return { dtype, shape: stored.shape, data };
}

/** A matrix the other way round: what GPT-2's Conv1D holds as [in, out]. */
export function transposed(stored: StoredTensor): StoredTensor {
  const [rows, cols] = stored.shape as [number, number];
  const data = new arrayOf[stored.dtype](stored.data.length);
  for (let r = 0; r < rows; r++) for (let c = 0; c < cols; c++) data[c * rows + r] = stored.data[r * cols + c]!;
  return { dtype: stored.dtype, shape: [cols, rows], data };
}

const shown = 12;
function listed(names: readonly string[]): string {
  const rest = names.length > shown ? ` and ${names.length - shown} more` : '';
  return `${names.slice(0, shown).map((name) => `'${name}'`).join(', ')}${rest}`; // prettier-ignore
}
