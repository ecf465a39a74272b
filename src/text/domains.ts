// Draws training rows by domain, more of those in which the student lags behind its teacher.
import { checkFraction, checkOptions, checkWhole } from '../check.js';
import { kindError, nearest, phrase, valueError } from '../errors.js';
import { deriveSeed } from '../nn/seed.js';
import { fillUniform, shuffledOrder } from '../random.js';

/** Options of {@link DomainSampler}. */
export interface DomainSamplerOptions {
  /** Domain of each training row, as a number. */
  domains: ArrayLike<number>;
  /** Their names; a row of domain d belongs to names[d]. */
  names: readonly string[];
  /** α in [0, 1]: how much of the weights follows the student; the rest is spread evenly, so that no domain is forgotten. Default 0.9. */
  alpha?: number;
  /** Weights to begin with, by name; they are scaled to sum to 1. Default: the shares of the rows. */
  weights?: Readonly<Record<string, number>>;
  seed: number;
}

/** All that the coming draws depend on, as JSON. */
export interface DomainSamplerState {
  weights: number[];
  /** Rows drawn so far, of each domain and in all. */
  drawn: number[];
}

/**
 * Domain-weighted sampling (DDK, arXiv 2407.16154): rows are drawn domain by domain with weights r, and after each measurement of both models'
 * perplexities by domain
 *
 *     ψ_d = r_d · exp(PPL_student,d / PPL_teacher,d),   r_d ← α · ψ_d / Σψ + (1 − α) / N
 *
 * computed in logarithms, so that a large ratio cannot overflow. Within a domain every row comes once before any comes again. What is drawn is a
 * function of seed, weights and how many rows were drawn before: {@link state} and {@link restore} go on exactly.
 *
 * @example
 * const sampler = new DomainSampler({ domains: source.train.domains, names: source.domains, seed: 1 });
 * const { input, labels } = source.batch(sampler.draw(16));
 * sampler.update(studentPerplexities, teacherPerplexities);
 */
export class DomainSampler {
  readonly names: readonly string[];
  readonly #alpha: number;
  readonly #seed: number;
  readonly #rows: Int32Array[];
  #weights: number[];
  #drawn: number[];
  readonly #orders: ({ pass: number; order: Int32Array } | undefined)[];

  constructor(options: DomainSamplerOptions) {
    const action = 'make a domain sampler';
    const { domains, names, alpha = 0.9, weights, seed } = checkOptions(action, options, ['domains', 'names', 'alpha', 'weights', 'seed']);
    if (!Array.isArray(names) || names.length === 0 || new Set(names).size !== names.length)
      throw kindError(action, 'names must be an array of different strings', names);
    if (typeof domains !== 'object' || domains === null || typeof domains.length !== 'number')
      throw kindError(action, 'domains must be an array of numbers', domains);
    this.names = [...(names as string[])];
    this.#alpha = checkFraction(action, 'alpha', alpha);
    this.#seed = checkWhole(action, 'seed', seed);
    const rows: number[][] = names.map(() => []);
    for (let row = 0; row < domains.length; row++) {
      const found = rows[domains[row]!];
      if (found === undefined)
        throw valueError(action, `domains must be whole numbers in [0, ${names.length - 1}]`, phrase(`row ${row} has ${domains[row]}`));
      found.push(row);
    }
    const empty = rows.findIndex((each) => each.length === 0);
    if (empty >= 0) throw valueError(action, 'every domain must have rows', phrase(`'${this.names[empty]}' has none`));
    this.#rows = rows.map((each) => Int32Array.from(each));
    this.#weights = weights === undefined ? rows.map((each) => each.length / domains.length) : this.#given(action, weights);
    this.#drawn = rows.map(() => 0);
    this.#orders = rows.map(() => undefined);
  }

  /** r by name; they sum to 1. */
  get weights(): Record<string, number> {
    return Object.fromEntries(this.names.map((name, d) => [name, this.#weights[d]!]));
  }

  /** Moves the weights by what both models' perplexities are in each domain. @throws RangeError unless all are finite and at least 1 */
  update(student: Readonly<Record<string, number>>, teacher: Readonly<Record<string, number>>): void {
    const action = 'update domain weights';
    const ratios = this.names.map((name) => {
      for (const [whose, perplexities] of [
        ['student', student],
        ['teacher', teacher],
      ] as const) {
        const value: unknown = perplexities?.[name];
        if (typeof value !== 'number') throw kindError(action, `${whose} must have a perplexity for '${name}'`, value);
        if (!(value >= 1 && value < Infinity))
          throw valueError(action, `${whose}['${name}'] must be a finite perplexity of at least 1`, value);
      }
      return student[name]! / teacher[name]!;
    });
    const logs = ratios.map((ratio, d) => Math.log(this.#weights[d]!) + ratio);
    const most = Math.max(...logs);
    const psi = logs.map((log) => Math.exp(log - most));
    const sum = psi.reduce((a, b) => a + b);
    this.#weights = psi.map((value) => (this.#alpha * value) / sum + (1 - this.#alpha) / psi.length);
  }

  /** The next `count` rows. */
  draw(count: number): Int32Array {
    checkWhole('draw rows by domain', 'count', count, 1);
    const before = this.#drawn.reduce((a, b) => a + b);
    const rows = new Int32Array(count);
    const uniform = new Float32Array(1);
    for (let i = 0; i < count; i++) {
      fillUniform(uniform, deriveSeed(this.#seed, 'domain', before + i));
      rows[i] = this.#next(this.#domainAt(uniform[0]!));
    }
    return rows;
  }

  state(): DomainSamplerState {
    return { weights: [...this.#weights], drawn: [...this.#drawn] };
  }

  /** Goes on from what {@link state} gave. */
  restore(state: DomainSamplerState): void {
    const action = 'restore a domain sampler';
    const size = this.names.length;
    for (const name of ['weights', 'drawn'] as const) {
      if (!Array.isArray(state?.[name]) || state[name].length !== size)
        throw kindError(action, `state.${name} must have one number for each of ${size} domains`, state?.[name]);
    }
    state.drawn.forEach((value, d) => checkWhole(action, `drawn[${d}]`, value));
    const sum = state.weights.reduce((a, b) => a + b, 0);
    if (!state.weights.every((value) => value >= 0) || !(Math.abs(sum - 1) < 1e-6))
      throw valueError(action, 'weights must be at least 0 and sum to 1', phrase(`they sum to ${sum}`));
    this.#weights = [...state.weights];
    this.#drawn = [...state.drawn];
  }

  #given(action: string, weights: Readonly<Record<string, number>>): number[] {
    for (const name of Object.keys(weights)) {
      if (this.names.includes(name)) continue;
      const near = nearest(name, this.names);
      throw valueError(
        action,
        `weights must be of ${this.names.join(', ')}`,
        phrase(`'${name}' is none${near ? `; did you mean '${near}'?` : ''}`),
      );
    }
    const values = this.names.map((name) => weights[name] ?? 0);
    const sum = values.reduce((a, b) => a + b, 0);
    if (!values.every((value) => value >= 0 && value < Infinity) || !(sum > 0))
      throw valueError(action, 'weights must be at least 0 and not all 0', phrase(`they are ${values.join(', ')}`));
    return values.map((value) => value / sum);
  }

  #domainAt(u: number): number {
    let sum = 0;
    for (let d = 0; d < this.#weights.length; d++) {
      sum += this.#weights[d]!;
      if (u < sum) return d;
    }
    // Rounding may leave the sum below 1: the last domain that has a weight.
    return this.#weights.findLastIndex((weight) => weight > 0);
  }

  #next(domain: number): number {
    const rows = this.#rows[domain]!;
    const place = this.#drawn[domain]!++;
    const pass = Math.floor(place / rows.length);
    let held = this.#orders[domain];
    if (held?.pass !== pass) {
      held = { pass, order: shuffledOrder(rows.length, deriveSeed(this.#seed, 'rows', domain, pass)) };
      this.#orders[domain] = held;
    }
    return rows[held.order[place % rows.length]!]!;
  }
}
