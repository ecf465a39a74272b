// MiniLMv2: how the tokens of a sequence attend to each other, from queries, keys or values of any width.
import { tidy } from '../../autograd.js';
import { checkBoolean, checkOptions, checkWhole } from '../../check.js';
import { phrase, shapeText, valueError } from '../../errors.js';
import { add, silenced } from '../../ops/binary.js';
import { gatherRows } from '../../ops/gather_rows.js';
import { mean, sum } from '../../ops/reduce.js';
import { log } from '../../ops/unary.js';
import { fromArray, ordinalOf, type Tensor } from '../../tensor.js';
import { kdLoss } from '../kd_loss.js';
import { checkRowsOf, composedNames, composeRowLoss, constants, type ComposedLossOptions } from '../row_loss.js';
import { selfProducts } from './geometry.js';
import { checkOtherWidth, countedRows } from './pairs.js';

/** Options of {@link attentionRelationLoss}. */
export interface AttentionRelationOptions extends ComposedLossOptions {
  /** Relation heads A_r that both widths are split into; they need not be the models' attention heads. Default 1. */
  heads?: number;
  /** A token relates to itself and those before it only. Default false. */
  causal?: boolean;
}

/**
 * Relations of self-attention vectors (MiniLMv2, arXiv 2012.15828, equations 4 to 6): student and teacher queries (or keys, or values) are split into A_r heads
 * of width d each, and for each head
 *
 * R = softmax(AAᵀ/√d) over a sequence's tokens,  row i = w_i · mean_heads KL(R_t,i ‖ R_s,i),  with D = (R_s − R_t)/√d  ∂/∂A = (D + Dᵀ)A.
 *
 * The widths may differ: only the number of relation heads is common. Call it once each for queries, keys and values, and add. A token of weight 0, or with a
 * number that is not finite, is nobody's partner either. Memory: heads × batch × tokens².
 *
 * @param student [batch, tokens, width] or [tokens, width], float32, or float64 on the CPU
 * @param teacher the same tokens, of any width
 * @returns a single number, or with reduction 'none' one for each token in the student's leading shape
 * @throws RangeError where tokens differ or heads do not divide a width, TypeError for a teacher that requires grad
 */
export function attentionRelationLoss(student: Tensor, teacher: Tensor, options?: AttentionRelationOptions): Tensor {
  return tidy(() => {
    const action = 'compute attentionRelationLoss';
    const { heads = 1, causal = false, ...given } = checkOptions(action, options, [...composedNames, 'heads', 'causal']);
    checkWhole(action, 'heads', heads, 1, 2 ** 31);
    checkBoolean(action, 'causal', causal);
    const part = checkRowsOf(action, 'student', student);
    const { rows, leading } = part;
    if (leading.length === 0 || leading.length > 2)
      throw valueError(
        action,
        'student must have shape [batch, tokens, width] or [tokens, width]',
        phrase(`it has ${shapeText(student.shape)}`),
      );
    const features = checkOtherWidth(action, teacher, part);
    for (const [name, width] of [
      ['student', part.cols],
      ['teacher', features.shape[1]!],
    ] as const) {
      if (width % heads !== 0) throw valueError(action, `heads must divide the ${name}'s width ${width}`, heads);
    }
    const tokens = leading.at(-1)!;
    const batch = tokens === 0 ? 0 : rows / tokens;
    return composeRowLoss(action, part, given, null, (z, { weights }) => {
      if (rows === 0) return sum(z, { axis: -1 });
      const { order, column, absent, before, fault, rowWeights } = constants(() => {
        const { counts, fault: broken } = countedRows(action, z, features, weights);
        return {
          order: headOrder(rows, heads),
          // Such a token may have no partner at all: its row is not looked at.
          rowWeights: gatherRows(
            counts.cast('float32'),
            Int32Array.from({ length: heads * rows }, (_, i) => i % rows),
          ),
          column: counts.reshape([rows, 1]),
          absent: log(counts).reshape([batch, tokens]),
          before: causal ? causalMask(action, tokens, z) : null,
          fault: broken,
        };
      });
      // [heads · batch, tokens, tokens]: ⟨a_i, a_j⟩/√d, −∞ where token j is nobody's partner.
      const relations = (x: Tensor): Tensor => {
        const width = x.shape[1]! / heads;
        const split = gatherRows(silenced(x, column).reshape([rows * heads, width]), order);
        const products = selfProducts(split.reshape([heads * batch, tokens, width]), 1 / Math.sqrt(width), absent);
        return (before === null ? products : add(products, before)).reshape([heads * rows, tokens]);
      };
      const target = constants(() => relations(features));
      const losses = kdLoss(relations(z), target, { reduction: 'none', rowWeights }).reshape([heads, rows]);
      return add(mean(losses, { axis: 0 }), fault);
    });
  });
}

/** Rows [row, head] of a split tensor in the order [head, row]. */
function headOrder(rows: number, heads: number): Int32Array {
  return Int32Array.from({ length: rows * heads }, (_, i) => (i % rows) * heads + Math.floor(i / rows));
}

function causalMask(action: string, tokens: number, like: Tensor): Tensor {
  const values = new Float32Array(tokens * tokens);
  for (let i = 0; i < tokens; i++) values.fill(-Infinity, i * tokens + i + 1, (i + 1) * tokens);
  return fromArray(values, 'float32', [tokens, tokens], ordinalOf(like, action), action).cast(like.dtype);
}
