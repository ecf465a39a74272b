// What optimisers share: parameters, masks that keep pruned weights at zero, state that can be saved.
import { checkDType, checkOptions, checkTensor, checkTensors, checkWhole } from '../check.js';
import { kindError, phrase, shapeText, valueError } from '../errors.js';
import { keep } from '../autograd.js';
import { copyInto } from '../arithmetic.js';
import type { Handle } from '../native.js';
import type { StoredTensor } from '../safetensors.js';
import { cloned, gradientOf, handleOf, handleOrNull, hostCopy, stateOf, tensor, zeros, type Tensor } from '../tensor.js';

/** What {@link Optimizer.step} takes. */
export interface StepOptions {
  /** Multiplies every gradient, as clipping does. Default 1. */
  gradientScale?: number;
}

/** One parameter and what belongs to it. */
export interface Slot {
  parameter: Tensor;
  /** 1 keeps, 0 holds at zero; null where nothing is pruned. */
  mask: Tensor | null;
  /** Buffers by name: momentum, moments. */
  buffers: Record<string, Tensor>;
}

/** Parameters of one call and what belongs to each, in the same order, as kernels take them. */
export interface Batch {
  parameters: Handle[];
  gradients: Handle[];
  masks: (Handle | null)[];
  sizes: number[];
  buffers: Record<string, Handle[]>;
}

/** Changes parameters by their gradients. */
export abstract class Optimizer {
  /** The step size of the next {@link step}; schedules set it. */
  learningRate: number;
  /** How often {@link step} has run. */
  steps = 0;
  protected readonly slots: Slot[];

  constructor(parameters: Iterable<Tensor>, learningRate: number, bufferNames: readonly string[]) {
    const action = 'make an optimiser';
    checkRate(action, learningRate);
    this.learningRate = learningRate;
    this.slots = checkTensors(action, 'parameters', parameters).map((parameter) => {
      if (!parameter.requiresGrad) throw kindError(action, 'every parameter must require grad', phrase('one does not'));
      checkDType(action, 'every parameter', parameter, 'float32');
      const buffers: Record<string, Tensor> = {};
      for (const name of bufferNames) buffers[name] = keep(zeros(parameter.shape, { device: parameter.device }));
      // Steps write in place: what was known of the elements holds no longer.
      for (const each of [parameter, ...Object.values(buffers)]) stateOf(each).uniform = null;
      return { parameter, mask: null, buffers };
    });
    if (this.slots.length === 0) throw valueError(action, 'there must be a parameter', phrase('there is none'));
  }

  /** Runs the update of parameters that have a gradient, all on one device and none of them on the memory of another. */
  protected abstract update(batch: Batch, gradientScale: number): void;

  /** Moves every parameter that has a gradient by one step. */
  step(options?: StepOptions): void {
    const { gradientScale = 1 } = checkOptions('step', options, ['gradientScale']);
    if (typeof gradientScale !== 'number') throw kindError('step', 'gradientScale must be a number', gradientScale);
    if (!Number.isFinite(gradientScale)) throw valueError('step', 'gradientScale must be a finite number', gradientScale);
    checkRate('step', this.learningRate);
    // All are looked at before one is changed.
    const batches = this.#batches();
    this.steps++;
    for (const batch of batches) this.update(batch, gradientScale);
  }

  /** What has a gradient, as few calls as there can be: one for each device, more where parameters share memory. */
  #batches(): Batch[] {
    const batches: Batch[] = [];
    const open = new Map<number, { batch: Batch; memory: Set<unknown> }>();
    for (const { parameter, mask, buffers } of this.slots) {
      const gradient = gradientOf(parameter);
      if (gradient === null) continue;
      const handle = handleOf(parameter, 'step');
      const { ordinal } = stateOf(parameter).storage!;
      let current = open.get(ordinal);
      // One after the other, as they were given.
      if (current === undefined || current.memory.has(handle)) {
        const batch: Batch = { parameters: [], gradients: [], masks: [], sizes: [], buffers: {} };
        for (const name of Object.keys(buffers)) batch.buffers[name] = [];
        open.set(ordinal, (current = { batch, memory: new Set() }));
        batches.push(batch);
      }
      current.memory.add(handle);
      const { batch } = current;
      batch.parameters.push(handle);
      batch.gradients.push(handleOf(gradient, 'step'));
      batch.masks.push(handleOrNull(mask, 'step'));
      batch.sizes.push(parameter.size);
      for (const [name, buffer] of Object.entries(buffers)) batch.buffers[name]!.push(handleOf(buffer, 'step'));
    }
    return batches;
  }

  /** Forgets the gradients of all parameters. */
  zeroGrad(): void {
    for (const { parameter } of this.slots) parameter.zeroGrad();
  }

  /**
   * Holds the entries of a parameter at exactly zero where the mask is 0: at once, and through every step.
   * The parameter's momentum there becomes zero too. `null` takes the mask away.
   */
  setMask(parameter: Tensor, mask: Tensor | null): void {
    const action = 'set a mask';
    checkTensor(action, 'the parameter', parameter);
    const slot = this.slots.find((each) => each.parameter === parameter);
    if (!slot) throw valueError(action, 'the parameter must belong to this optimiser', phrase('it does not'));
    const held = checkMask(action, parameter, mask, [parameter, ...Object.values(slot.buffers)]);
    slot.mask?.dispose();
    slot.mask = held;
  }

  /** The state as plain arrays, to be saved with the model. */
  stateDict(): Record<string, StoredTensor> {
    const state: Record<string, StoredTensor> = { steps: { dtype: 'float64', shape: [1], data: new Float64Array([this.steps]) } };
    this.slots.forEach(({ buffers }, i) => {
      for (const [name, buffer] of Object.entries(buffers)) {
        state[`${i}.${name}`] = { dtype: 'float32', shape: buffer.shape, data: hostCopy(buffer, 'save an optimiser').slice() };
      }
    });
    return state;
  }

  /** Takes back what {@link stateDict} gave. Nothing is changed where an entry does not fit. */
  loadStateDict(state: Record<string, StoredTensor>): void {
    const action = 'load an optimiser';
    if (typeof state !== 'object' || state === null) throw kindError(action, 'the state must be an object', state);
    const steps = state['steps']?.data?.[0];
    if (steps === undefined) throw valueError(action, "the state must hold 'steps'", phrase('it does not'));
    checkWhole(action, "'steps'", steps);
    this.slots.forEach(({ buffers }, i) => {
      for (const [name, buffer] of Object.entries(buffers)) {
        const stored = state[`${i}.${name}`];
        if (stored?.data?.length !== buffer.size) {
          throw valueError(
            action,
            `the state must hold '${i}.${name}' with ${buffer.size} elements`,
            phrase(stored?.data === undefined ? 'it does not' : `it holds ${stored.data.length}`),
          );
        }
      }
    });
    this.slots.forEach(({ buffers }, i) => {
      for (const [name, buffer] of Object.entries(buffers)) assign(buffer, Float32Array.from(state[`${i}.${name}`]!.data), action);
    });
    this.steps = steps;
  }

  /** Gives back the memory of state and masks; the parameters stay. */
  dispose(): void {
    for (const { mask, buffers } of this.slots) {
      mask?.dispose();
      for (const buffer of Object.values(buffers)) buffer.dispose();
    }
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Items, a list for each device that their tensors are on, as native calls over many tensors take them. */
export function perDevice<T>(items: Iterable<T>, tensorOf: (item: T) => Tensor): Iterable<T[]> {
  const lists = new Map<string, T[]>();
  for (const item of items) {
    const { device } = tensorOf(item);
    const others = lists.get(device);
    if (others === undefined) lists.set(device, [item]);
    else others.push(item);
  }
  return lists.values();
}

/** A mask of a parameter's size as a copy of its own, `masked` at zero where it is 0. @throws RangeError for another size or other numbers */
export function checkMask(action: string, parameter: Tensor, mask: Tensor | null, masked: readonly Tensor[]): Tensor | null {
  if (mask === null) return null;
  checkTensor(action, 'the mask', mask);
  if (mask.size !== parameter.size || mask.dtype !== 'float32') {
    throw valueError(
      action,
      `the mask must be float32 of shape ${shapeText(parameter.shape)}`,
      phrase(`it is ${mask.dtype} of shape ${shapeText(mask.shape)}`),
    );
  }
  const values = hostCopy(mask, action);
  if (values.some((v) => v !== 0 && v !== 1)) throw valueError(action, 'the mask must hold 0 and 1 only', phrase('it holds other numbers'));
  for (const each of masked) {
    const kept = Float32Array.from(hostCopy(each, action), (v, i) => (values[i] === 0 ? 0 : v));
    assign(each, kept, action);
  }
  return keep(cloned(mask, action));
}

/** Overwrites a tensor's elements in place. */
export function assign(out: Tensor, values: Float32Array, action: string): void {
  const from = tensor(values, { shape: out.shape, device: out.device });
  copyInto(out, from, action);
  stateOf(out).uniform = null;
  from.dispose();
}

export function checkRate(action: string, learningRate: number): void {
  if (typeof learningRate !== 'number') throw kindError(action, 'learningRate must be a number', learningRate);
  if (!(learningRate >= 0 && learningRate < Infinity)) throw valueError(action, 'learningRate must be a finite number ≥ 0', learningRate);
}

export function checkShare(action: string, name: string, value: number): void {
  if (typeof value !== 'number') throw kindError(action, `${name} must be a number`, value);
  if (!(value >= 0 && value < 1)) throw valueError(action, `${name} must be in [0, 1)`, value);
}

export function checkDecay(action: string, value: number): void {
  if (typeof value !== 'number') throw kindError(action, 'weightDecay must be a number', value);
  if (!(value >= 0 && value < Infinity)) throw valueError(action, 'weightDecay must be a finite number ≥ 0', value);
}
