// Targets on disk: a safetensors file with what it takes to use them again in its metadata.
import { checkOptions } from '../check.js';
import { parseDevice, type Device } from '../device.js';
import { kindError, LimbeckError, wording } from '../errors.js';
import { packageVersion } from '../native.js';
import { checkTemperatures } from '../ops/temperature.js';
import { badFile, readSafetensors, writeSafetensors, type SafetensorsFile, type StoredTensor } from '../safetensors.js';
import { fromArray, hostCopy, Tensor } from '../tensor.js';
import { DenseTarget, SparseTarget, type DenseKind } from './target.js';

const formatName = 'limbeck targets 1';

/** A target of either kind. */
export type Target = DenseTarget | SparseTarget;

function stored(tensor: Tensor): StoredTensor {
  const { dtype, shape } = tensor;
  return { dtype, shape, data: hostCopy(tensor, 'save a target') };
}

/**
 * Writes a target to a safetensors file. The file is written beside and renamed: the old one stays whole until then.
 *
 * @throws LimbeckError `bad_file` naming the path where the disk is full or the folder is missing
 *
 * @example
 * saveTargets('teacher.safetensors', captureTopK(logits, 16, { temperature: 2 }));
 */
export function saveTargets(path: string, target: Target): void {
  const action = 'save a target';
  if (typeof path !== 'string' || path === '') throw kindError(action, 'path must be a string', path);
  const tensors: Record<string, StoredTensor> = {};
  const metadata: Record<string, string> = { format: formatName, limbeck: packageVersion() };
  if (target instanceof SparseTarget) {
    const { indices, logProbs, weights, givenTail, temperature, cols, k } = target;
    metadata.kind = logProbs === null ? 'sparse_weights' : 'sparse_log_probs';
    metadata.k = String(k);
    tensors.indices = stored(indices);
    if (logProbs !== null) tensors.log_probs = stored(logProbs);
    if (weights !== null) tensors.weights = stored(weights);
    if (givenTail !== null) tensors.tail_log_mass = stored(givenTail);
    if (temperature instanceof Tensor) tensors.temperature = stored(temperature);
    else metadata.temperature = String(temperature);
    if (cols !== null) metadata.cols = String(cols);
  } else if (target instanceof DenseTarget) {
    metadata.kind = target.kind;
    metadata.cols = String(target.values.shape[target.values.shape.length - 1]);
    tensors.values = stored(target.values);
  } else {
    throw kindError(action, 'target must be made by captureTopK, sparseTarget or denseTarget', target);
  }
  writeSafetensors(path, tensors, metadata);
}

/** Options of {@link loadTargets}. */
export interface LoadTargetsOptions {
  /** Default: the one of {@link setDevice}. */
  device?: Device;
}

/**
 * Reads what {@link saveTargets} wrote.
 *
 * @throws LimbeckError `bad_file` naming the path where the file is missing, truncated or no target of limbeck's
 */
export function loadTargets(path: string, options?: LoadTargetsOptions): Target {
  const action = 'load targets';
  const { device } = checkOptions(action, options, ['device']);
  const ordinal = parseDevice(action, device);
  const { tensors, metadata } = readSafetensors(path);
  if (metadata.format !== formatName) {
    throw badFile(
      path,
      `it must be a file of saveTargets ('${formatName}')`,
      metadata.format === undefined ? 'it names no format' : `its format is '${metadata.format}'`,
    );
  }
  const take = (name: string, dtype: string, shape: (number | null)[]): Tensor => {
    const { dtype: type, shape: extents, data } = found(path, tensors, name);
    const fits =
      type === dtype && extents.length === shape.length && extents.every((extent, i) => shape[i] === null || extent === shape[i]);
    if (!fits)
      throw badFile(
        path,
        `tensor '${name}' must be ${dtype} [${shape.map((extent) => extent ?? '*').join(', ')}]`,
        `it is ${type} [${extents.join(', ')}]`,
      );
    return fromArray(data, type, Object.freeze([...extents]), ordinal, action);
  };
  const { kind } = metadata;
  if (kind === 'logits' || kind === 'probs' || kind === 'log_probs') {
    const values = found(path, tensors, 'values');
    if ((values.dtype !== 'float32' && values.dtype !== 'float64') || values.shape.length === 0)
      throw badFile(path, "tensor 'values' must be float32 or float64 rows", `it is ${values.dtype}`);
    return new DenseTarget(
      kind satisfies DenseKind,
      fromArray(values.data, values.dtype, Object.freeze([...values.shape]), ordinal, action),
    );
  }
  if (kind !== 'sparse_log_probs' && kind !== 'sparse_weights') {
    throw new LimbeckError(
      'wrong_target',
      wording(`read ${path}`, 'its kind must be one this version knows', `it is '${kind}', written by limbeck ${metadata.limbeck}`),
    );
  }
  const indices = take('indices', 'int32', [null, null]);
  const [rows, k] = indices.shape as [number, number];
  if (wholeNumber(path, metadata, 'k') !== k)
    throw badFile(path, `metadata 'k' must be the entries of a row (${k})`, `it is ${metadata.k}`);
  const cols = metadata.cols === undefined ? null : wholeNumber(path, metadata, 'cols');
  return new SparseTarget({
    indices,
    logProbs: kind === 'sparse_log_probs' ? take('log_probs', 'float32', [rows, k]) : null,
    weights: kind === 'sparse_weights' ? take('weights', 'float32', [rows, k]) : null,
    tailLogMass: tensors.has('tail_log_mass') ? take('tail_log_mass', 'float32', [rows]) : null,
    temperature: tensors.has('temperature')
      ? rowTemperatures(path, tensors, take('temperature', 'float32', [rows]))
      : temperatureOf(path, metadata),
    cols,
  });
}

function found(path: string, tensors: SafetensorsFile['tensors'], name: string): StoredTensor {
  const tensor = tensors.get(name);
  if (tensor === undefined) throw badFile(path, `it must hold tensor '${name}'`, 'it does not');
  return tensor;
}

function wholeNumber(path: string, metadata: Record<string, string>, key: string): number {
  const value = Number(metadata[key]);
  if (!/^\d{1,15}$/.test(metadata[key] ?? ''))
    throw badFile(path, `metadata '${key}' must be a whole number`, `it is ${metadata[key] ?? 'missing'}`);
  return value;
}

function temperatureOf(path: string, metadata: Record<string, string>): number {
  const value = Number(metadata.temperature);
  if (!(value > 0 && value < Infinity))
    throw badFile(path, "metadata 'temperature' must be a positive number", `it is ${metadata.temperature ?? 'missing'}`);
  return value;
}

function rowTemperatures(path: string, tensors: SafetensorsFile['tensors'], temperature: Tensor): Tensor {
  try {
    checkTemperatures('read a target', found(path, tensors, 'temperature').data);
  } catch (error) {
    throw badFile(path, "tensor 'temperature' must be positive", 'it is not', error);
  }
  return temperature;
}
