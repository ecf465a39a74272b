// A moving average of a model's weights: what is evaluated, kept, or taught from instead of the last step's.
import { copyInto } from '../arithmetic.js';
import { keep, tidy } from '../autograd.js';
import { checkBoolean, checkOptions, checkTensors, sameShape } from '../check.js';
import { kindError, phrase, shapeText, valueError } from '../errors.js';
import { Module } from '../nn/module.js';
import { kernel } from '../native.js';
import type { StoredTensor } from '../safetensors.js';
import { cloned, handleOf, handleOrNull, hostCopy, stateOf, type Tensor } from '../tensor.js';
import { assign, checkMask, checkShare, perDevice } from './optimizer.js';

const emaKernel = kernel('ema', 'update an EMA');

export interface EMAOptions {
  /** Share of the average that stays at each update, in [0, 1). */
  decay: number;
  /** The share begins small and grows, min(decay, (1 + n)/(10 + n)) at update n from 0: early weights are soon forgotten. Default false. */
  warmup?: boolean;
}

interface Averaged {
  name: string;
  parameter: Tensor;
  average: Tensor;
  mask: Tensor | null;
}

/**
 * Exponential moving average of weights (Polyak and Juditsky 1992; Tarvainen and Valpola 2017, arXiv 1703.01780): a ← a + (1 − decay)·(p − a) at each
 * {@link update}, beginning with the weights there are. Where a weight does not move, its average stays exactly what it is.
 *
 * @example
 * const ema = new optim.EMA(model, { decay: 0.999 });
 * optimizer.step();
 * ema.update();
 * const accuracy = ema.during(() => evaluate(model));
 */
export class EMA {
  readonly decay: number;
  readonly warmup: boolean;
  /** How often {@link update} has run. */
  updates = 0;
  readonly #slots: Averaged[];
  #swapped = false;

  /**
   * @param source a model, or parameters
   * @throws RangeError for a decay outside [0, 1), or where there is no parameter
   */
  constructor(source: Module | Iterable<Tensor>, options: EMAOptions) {
    const action = 'make an EMA';
    if (options === undefined) throw kindError(action, 'options must be an object', options);
    const { decay, warmup = false } = checkOptions(action, options, ['decay', 'warmup']);
    checkShare(action, 'decay', decay);
    checkBoolean(action, 'warmup', warmup);
    this.decay = decay;
    this.warmup = warmup;
    this.#slots = named(action, source).map(([name, parameter]) => ({
      name,
      parameter,
      average: keep(cloned(parameter, action)),
      mask: null,
    }));
    if (this.#slots.length === 0) throw valueError(action, 'there must be a parameter', phrase('there is none'));
    // Swaps write in place: what was known of the elements holds no longer.
    for (const { parameter } of this.#slots) stateOf(parameter).uniform = null;
  }

  /** The share that stays at the next {@link update}. */
  get nextDecay(): number {
    return this.warmup ? Math.min(this.decay, (1 + this.updates) / (10 + this.updates)) : this.decay;
  }

  /** Takes the weights as they are now into the averages, all in one native call; to be called after each step of the optimiser. */
  update(): void {
    const action = 'update an EMA';
    this.#checkOwn(action);
    const share = 1 - this.nextDecay;
    this.updates++;
    for (const slots of perDevice(this.#slots, ({ average }) => average)) {
      emaKernel(
        slots.map(({ average }) => handleOf(average, action)),
        slots.map(({ parameter }) => handleOf(parameter, action)),
        slots.map(({ mask }) => handleOrNull(mask, action)),
        slots.map(({ average }) => average.size),
        share,
      );
    }
  }

  /**
   * Holds the entries of a parameter's average at exactly zero where the mask is 0: at once, and through every update. Beside
   * `optimizer.setMask(parameter, mask)`: averages remember what was pruned. `null` takes the mask away.
   */
  setMask(parameter: Tensor, mask: Tensor | null): void {
    const action = 'set a mask';
    this.#checkOwn(action);
    const slot = this.#slots.find((each) => each.parameter === parameter);
    if (!slot) throw valueError(action, 'the parameter must belong to this EMA', phrase('it does not'));
    const held = checkMask(action, parameter, mask, [slot.average]);
    slot.mask?.dispose();
    slot.mask = held;
  }

  /** Exchanges the weights of the model and their averages; a second call brings both back, bit for bit. */
  swap(): void {
    const action = 'swap an EMA';
    for (const { parameter, average } of this.#slots) {
      tidy(() => {
        const own = cloned(parameter, action);
        copyInto(parameter, average, action);
        copyInto(average, own, action);
      });
    }
    this.#swapped = !this.#swapped;
  }

  /** Runs a function while the model has the averages as its weights, and brings its own back whatever happens. */
  during<T>(fn: () => T): T {
    const action = 'run during an EMA';
    if (typeof fn !== 'function') throw kindError(action, 'fn must be a function', fn);
    this.#checkOwn(action);
    this.swap();
    try {
      const result = fn();
      if (result instanceof Promise) {
        result.catch(() => undefined);
        throw kindError(action, 'fn must be synchronous (swap() before and after a Promise)', phrase('it gave back a Promise'));
      }
      return result;
    } finally {
      this.swap();
    }
  }

  /** Copies the averages into another model, or other parameters, of the same shapes in the same order. Nothing is changed where one does not fit. */
  applyTo(target: Module | Iterable<Tensor>): void {
    const action = 'apply an EMA';
    this.#checkOwn(action);
    const others = named(action, target);
    if (others.length !== this.#slots.length)
      throw valueError(action, `the target must have ${this.#slots.length} parameters`, phrase(`it has ${others.length}`));
    this.#slots.forEach(({ average }, i) => {
      const [name, other] = others[i]!;
      if (!sameShape(other.shape, average.shape) || other.dtype !== average.dtype) {
        throw valueError(
          action,
          `'${name}' must be ${average.dtype} of shape ${shapeText(average.shape)}`,
          phrase(`it is ${other.dtype} of shape ${shapeText(other.shape)}`),
        );
      }
    });
    this.#slots.forEach(({ average }, i) => assign(others[i]![1], Float32Array.from(hostCopy(average, action)), action));
  }

  /** The averages by the parameters' names (numbers where parameters were given), and how many updates there were. */
  stateDict(): Record<string, StoredTensor> {
    const action = 'save an EMA';
    this.#checkOwn(action);
    const state: Record<string, StoredTensor> = { updates: { dtype: 'float64', shape: [1], data: new Float64Array([this.updates]) } };
    for (const { name, average } of this.#slots)
      state[`average.${name}`] = { dtype: 'float32', shape: average.shape, data: hostCopy(average, action).slice() };
    return state;
  }

  /** Takes back what {@link stateDict} gave. Nothing is changed where an entry does not fit. */
  loadStateDict(state: Record<string, StoredTensor>): void {
    const action = 'load an EMA';
    this.#checkOwn(action);
    if (state === null || typeof state !== 'object') throw kindError(action, 'state must be an object of tensors by name', state);
    const updates = state['updates']?.data[0];
    if (updates === undefined) throw valueError(action, "the state must hold 'updates'", phrase('it does not'));
    for (const { name, average } of this.#slots) {
      const stored = state[`average.${name}`];
      if (stored === undefined || !sameShape(stored.shape, average.shape)) {
        throw valueError(
          action,
          `the state must hold 'average.${name}' of shape ${shapeText(average.shape)}`,
          phrase(stored === undefined ? 'it does not' : `its shape is ${shapeText(stored.shape)}`),
        );
      }
    }
    for (const { name, average } of this.#slots) assign(average, Float32Array.from(state[`average.${name}`]!.data), action);
    this.updates = updates;
  }

  /** Gives back the memory of averages and masks; the model stays. */
  dispose(): void {
    for (const { average, mask } of this.#slots) {
      average.dispose();
      mask?.dispose();
    }
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #checkOwn(action: string): void {
    if (this.#swapped)
      throw valueError(action, 'the model must have its own weights', phrase('it has the averages; swap() brings them back'));
  }
}

function named(action: string, source: unknown): [string, Tensor][] {
  const found: [string, Tensor][] =
    source instanceof Module
      ? [...source.namedParameters()]
      : checkTensors(action, 'parameters', source).map((parameter, i) => [String(i), parameter]);
  for (const [name, { dtype }] of found)
    if (dtype !== 'float32') throw kindError(action, `parameter '${name}' must be float32`, phrase(`it is ${dtype}`));
  return found;
}
