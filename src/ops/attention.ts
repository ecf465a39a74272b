// Multi-head attention on queries, keys and values that lie in one tensor.
import { defineOp, type Computed } from '../autograd.js';
import { checkBoolean, checkComputed, checkNumber, checkOptions, checkWhole } from '../check.js';
import { kindError, phrase, shapeText, valueError } from '../errors.js';
import { kernel } from '../native.js';
import { emptyLike, handleOf, type Tensor } from '../tensor.js';

/** Options of {@link attention}. */
export interface AttentionOptions {
  /** Number of heads; divides the width. */
  heads: number;
  /** A token sees itself and those before it only. Default true. */
  causal?: boolean;
  /** What q·k is multiplied by, > 0. Default 1/√(width of a head). */
  scale?: number;
}

/**
 * softmax(q·kᵀ·scale)·v in each head (Vaswani et al., arXiv 1706.03762, equation 1). No [tokens, tokens] tensor outlives the call:
 * backward computes the probabilities again.
 *
 * @param qkv [batch, tokens, 3·width] or [tokens, 3·width]: queries, keys, values one after the other in the last dimension, each
 *   heads × head width; float32, or float64 on the CPU. A head is at most 256 wide
 * @returns [batch, tokens, width] or [tokens, width]
 * @throws RangeError where the width is not a multiple of 3·heads
 */
export const attention = defineOp({
  name: 'attention',
  run: (input: Tensor, options: AttentionOptions): Computed => {
    const action = 'compute attention';
    const qkv = checkComputed(action, 'qkv', input);
    if (options === undefined) throw kindError(action, 'options must give heads', options);
    const { heads, causal = true, scale } = checkOptions(action, options, ['heads', 'causal', 'scale']);
    checkWhole(action, 'heads', heads, 1);
    checkBoolean(action, 'causal', causal);
    const { shape } = qkv;
    if (shape.length !== 2 && shape.length !== 3)
      throw valueError(action, 'qkv must have shape [batch, tokens, 3·width] or [tokens, 3·width]', phrase(`it has ${shapeText(shape)}`));
    const [batch, tokens, packed] = shape.length === 3 ? (shape as [number, number, number]) : [1, shape[0]!, shape[1]!];
    if (packed === 0 || packed % (3 * heads) !== 0)
      throw valueError(action, `the last dimension of qkv must be a multiple of 3·heads (${3 * heads})`, packed);
    const headWidth = packed / 3 / heads;
    const factor = scale === undefined ? 1 / Math.sqrt(headWidth) : checkNumber(action, 'scale', scale);
    if (!(factor > 0 && factor < Infinity)) throw valueError(action, 'scale must be positive and finite', factor);
    const out = emptyLike(qkv, action, [...shape.slice(0, -1), packed / 3]);
    const logSums = emptyLike(qkv, action, [batch, heads, tokens]);
    const extents = [batch, tokens, heads, headWidth, Number(causal), factor] as const;
    if (out.size > 0) kernel('attention', action)(handleOf(qkv, action), handleOf(out, action), handleOf(logSums, action), ...extents);
    return {
      out,
      inputs: [qkv],
      saved: [out, logSums],
      backward: (gradient) => {
        const gradientQkv = emptyLike(qkv, action);
        if (out.size > 0) {
          kernel('attention_backward', action)(
            handleOf(qkv, action),
            handleOf(out, action),
            handleOf(logSums, action),
            handleOf(gradient, action),
            handleOf(gradientQkv, action),
            ...extents,
          );
        }
        return [gradientQkv];
      },
    };
  },
});
