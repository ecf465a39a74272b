// Modules: parts of a model, their parameters, and how both are saved and loaded.
import { copyInto } from '../arithmetic.js';
import { checkBoolean } from '../check.js';
import { kindError, phrase, shapeText, valueError } from '../errors.js';
import { badFile, readSafetensors, writeSafetensors, type SafetensorsFile, type StoredTensor } from '../safetensors.js';
import { loadPyTorch, type PyTorchEntry, type PyTorchLoaded, type PyTorchOptions } from './pytorch.js';
import { hostCopy, stateOf, Tensor, tensor } from '../tensor.js';

/**
 * Base of everything with parameters. Tensors and modules that a subclass keeps in its own fields, alone or in arrays, are
 * found by themselves: tensors that require grad are parameters, named by their fields.
 *
 * @example
 * class Classifier extends nn.Module {
 *   hidden = new nn.Linear(784, 32, { seed: 1 });
 *   output = new nn.Linear(32, 10, { seed: 2 });
 *   forward(x) {
 *     return this.output.forward(relu(this.hidden.forward(x)));
 *   }
 * }
 */
export abstract class Module {
  /** Whether dropout drops. Set by {@link train} and {@link eval}. */
  training = true;

  abstract forward(x: Tensor): Tensor;

  /** The modules directly inside, by name. */
  *children(): Generator<[string, Module]> {
    for (const [name, value] of Object.entries(this)) {
      if (value instanceof Module) yield [name, value];
      else if (Array.isArray(value)) {
        for (const [i, entry] of value.entries()) if (entry instanceof Module) yield [`${name}.${i}`, entry];
      }
    }
  }

  /** Parameters by name, those of children with the child's name before theirs. */
  *namedParameters(prefix = ''): Generator<[string, Tensor]> {
    for (const [name, value] of Object.entries(this)) {
      if (value instanceof Tensor && value.requiresGrad) yield [prefix + name, value];
    }
    for (const [name, child] of this.children()) yield* child.namedParameters(`${prefix}${name}.`);
  }

  /** All parameters, in a fixed order. */
  parameters(): Tensor[] {
    return [...this.namedParameters()].map(([, parameter]) => parameter);
  }

  /** Number of parameters' elements. */
  parameterCount(): number {
    return this.parameters().reduce((sum, parameter) => sum + parameter.size, 0);
  }

  /** This module and all inside it. */
  *modules(prefix = ''): Generator<[string, Module]> {
    yield [prefix, this];
    for (const [name, child] of this.children()) yield* child.modules(prefix === '' ? name : `${prefix}.${name}`);
  }

  /** Switches to training: dropout drops. */
  train(training = true): this {
    checkBoolean('switch a module', 'training', training);
    for (const [, module] of this.modules()) module.training = training;
    return this;
  }

  /** Switches to evaluation: dropout passes everything. */
  eval(): this {
    return this.train(false);
  }

  /** Copies of all parameters, by name. */
  stateDict(): Record<string, StoredTensor> {
    const state: Record<string, StoredTensor> = {};
    for (const [name, parameter] of this.namedParameters()) {
      state[name] = { dtype: parameter.dtype, shape: parameter.shape, data: hostCopy(parameter, 'read a parameter').slice() };
    }
    return state;
  }

  /** Overwrites all parameters; every name, shape and dtype must fit. Nothing is changed where one does not. */
  loadStateDict(state: Record<string, StoredTensor>): void {
    const action = 'load a state';
    if (state === null || typeof state !== 'object') throw kindError(action, 'state must be an object of tensors by name', state);
    const own = [...this.namedParameters()];
    const names = new Set(own.map(([name]) => name));
    for (const name of Object.keys(state)) {
      if (!names.has(name)) throw valueError(action, `every entry must be a parameter of the model`, phrase(`'${name}' is not`));
    }
    for (const [name, parameter] of own) {
      const stored = state[name];
      if (stored === undefined) throw valueError(action, `the state must hold '${name}'`, phrase('it does not'));
      if (stored.dtype !== parameter.dtype || shapeText(stored.shape) !== shapeText(parameter.shape)) {
        throw valueError(
          action,
          `'${name}' must be ${parameter.dtype} of shape ${shapeText(parameter.shape)}`,
          phrase(`it is ${stored.dtype} of shape ${shapeText(stored.shape)}`),
        );
      }
    }
    for (const [name, parameter] of own) {
      const { data, shape, dtype } = state[name]!;
      const from = tensor(data, { shape, dtype, device: parameter.device });
      copyInto(parameter, from, action);
      stateOf(parameter).uniform = null;
      from.dispose();
    }
  }

  /** Writes the parameters to a safetensors file, whole or not at all. */
  save(path: string, metadata?: Record<string, string>): void {
    writeSafetensors(path, this.stateDict(), metadata);
  }

  /**
   * Reads the parameters from a safetensors file.
   *
   * @throws LimbeckError `bad_file` where a name, shape or dtype does not fit
   */
  load(path: string): void {
    const file: SafetensorsFile = readSafetensors(path);
    try {
      this.loadStateDict(Object.fromEntries(file.tensors));
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      throw badFile(path, 'its tensors must fit the model', error.message, error);
    }
  }

  /**
   * Reads the parameters from a safetensors file of PyTorch's, under its names. Layouts are the same (Linear [out, in], Conv2d
   * [out, in, height, width]); half types are widened. For a {@link GPT}, the names and transposed weights of Hugging Face's GPT-2
   * are known.
   *
   * @param options.rename from the file's names to the model's: whole names or what they begin with (`{ fc1: 'layers.0' }`), or a
   *   function, which gives null for what is to be left out
   * @param options.strict every parameter must be in the file, and every tensor of the file used. Default true
   * @returns parameters the file does not have and tensors the model does not, both empty where strict
   * @throws LimbeckError `bad_file` that lists what is missing, left over or of another shape; nothing is changed then
   */
  loadPyTorch(path: string, options?: PyTorchOptions): PyTorchLoaded {
    return loadPyTorch(this, (name, stored) => this.pyTorchEntry(name, stored), path, options);
  }

  /** What a subclass knows of the names and layouts that others give its parameters. */
  pyTorchEntry(name: string, stored: StoredTensor): PyTorchEntry {
    return [name, stored];
  }

  /** Gives back the memory of all parameters. */
  dispose(): void {
    for (const parameter of this.parameters()) parameter.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
