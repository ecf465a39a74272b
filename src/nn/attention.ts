// Self-attention with its projections.
import { copyInto } from '../arithmetic.js';
import { checkBoolean, checkOptions, checkPositive, checkWhole } from '../check.js';
import type { Device } from '../device.js';
import { kindError, valueError } from '../errors.js';
import { freshSeed } from '../random.js';
import { attention } from '../ops/index.js';
import { rowsView, type Tensor } from '../tensor.js';
import { checkWidth, Linear, runLinear, type Dropout } from './layers.js';
import { Module } from './module.js';
import { deriveSeed } from './seed.js';

/** Options of {@link CausalSelfAttention}. */
export interface SelfAttentionOptions {
  /** Columns of what comes in and goes out. */
  width: number;
  heads: number;
  /** At most 256. Default width/heads, which must then be whole. */
  headWidth?: number;
  /** Default true. */
  bias?: boolean;
  /** Standard deviation of the weights at the beginning. Default 0.02. */
  deviation?: number;
  /** That of the projection back. Default: deviation. */
  projectionDeviation?: number;
  /** Same seed, same weights, on every device. Default: a fresh one. */
  seed?: number;
  device?: Device;
}

/**
 * Each token looks at itself and those before it: x [batch, tokens, width] to the same shape. `qkv` makes queries, keys and values
 * of all heads, one after the other (weight [3·heads·headWidth, width]), `projection` leads back (weight [width, heads·headWidth]).
 * See {@link attention}.
 */
export class CausalSelfAttention extends Module {
  readonly qkv: Linear;
  readonly projection: Linear;
  readonly headWidth: number;

  constructor(options: SelfAttentionOptions) {
    super();
    const action = 'make a CausalSelfAttention';
    if (options === undefined) throw kindError(action, 'options must be an object', options);
    const {
      width,
      heads,
      headWidth = width / heads,
      bias = true,
      deviation = 0.02,
      projectionDeviation = deviation,
      seed = freshSeed(),
      device,
    } = checkOptions(action, options, ['width', 'heads', 'headWidth', 'bias', 'deviation', 'projectionDeviation', 'seed', 'device']);
    checkWhole(action, 'width', width, 1, 2 ** 31);
    checkWhole(action, 'heads', heads, 1, 2 ** 31);
    if (options.headWidth === undefined && width % heads !== 0)
      throw valueError(action, `width must be a multiple of heads (${heads}) where headWidth is left out`, width);
    this.headWidth = checkWhole(action, 'headWidth', headWidth, 1, 256);
    checkBoolean(action, 'bias', bias);
    checkPositive(action, 'deviation', deviation);
    checkPositive(action, 'projectionDeviation', projectionDeviation);
    const inner = heads * headWidth;
    this.qkv = new Linear(width, 3 * inner, { bias, deviation, seed: deriveSeed(seed, 'qkv'), device });
    this.projection = new Linear(inner, width, { bias, deviation: projectionDeviation, seed: deriveSeed(seed, 'projection'), device });
  }

  /** As many as the weights are for. */
  get heads(): number {
    return this.projection.weight.shape[1]! / this.headWidth;
  }

  override forward(x: Tensor): Tensor {
    return this.forwardWithQkv(x).out;
  }

  /**
   * The result together with queries, keys and values, [batch, tokens, 3·heads·headWidth].
   *
   * @param drop what the result goes through at last
   */
  forwardWithQkv(x: Tensor, drop: Dropout | null = null): { out: Tensor; qkv: Tensor } {
    checkWidth('compute a CausalSelfAttention', x, this.qkv.weight.shape[1]!);
    const qkv = this.qkv.forward(x);
    return { out: runLinear(this.projection, attention(qkv, { heads: this.heads }), null, drop), qkv };
  }

  /**
   * The result for tokens behind those that `known` has, outside the graph: x [tokens, width] to the same shape.
   *
   * @internal
   * @param known queries, keys and values, [at or more, 3·heads·headWidth]; those of x are written behind the first `at`
   */
  continueText(x: Tensor, known: Tensor, at: number): Tensor {
    const action = 'compute a CausalSelfAttention';
    checkWidth(action, x, this.qkv.weight.shape[1]!);
    const count = x.shape[0]!;
    copyInto(rowsView(known, at, count, action), this.qkv.forward(x), action);
    // What earlier tokens attend to is computed again, which the kernel does in one go; their layers are not.
    const attended = attention(rowsView(known, 0, at + count, action), { heads: this.heads });
    return this.projection.forward(rowsView(attended, at, count, action));
  }
}
