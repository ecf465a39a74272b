// Matrix products, and the linear layer built on one.
import { defineOp, wantsGradient, type Computed } from '../autograd.js';
import { checkBoolean, checkFloating, checkOptions, checkRows, checkSameDevice, checkSameDType, checkShapeIs } from '../check.js';
import { isHalf } from '../dtypes.js';
import { phrase, shapeText, valueError } from '../errors.js';
import { findCode, kernel } from '../native.js';
import { emptyLike, handleOf, handleOrNull, uniformLike, type Tensor } from '../tensor.js';
import { applyBinary } from './binary.js';
import { applyReduce } from './reduce.js';

/** Options of {@link matmul}. */
export interface MatmulOptions {
  /** a is given as [k, m]. Default false. */
  transposeA?: boolean;
  /** b is given as [n, k]. Default false. */
  transposeB?: boolean;
}

/** The extents of op(a)·op(b), [m, k] by [k, n], and which side is transposed. */
interface Product {
  m: number;
  n: number;
  k: number;
  transposeA?: boolean;
  transposeB?: boolean;
  /** Elements from one line in memory of a, b and the result to the next. Default: no space between. */
  strideA?: number;
  strideB?: number;
  strideOut?: number;
  /** Multiplies the product. Default 1; another one for float32 and half types alone. */
  scale?: number;
}

/**
 * Writes op(a)·op(b) into `out`, or adds it there, outside the graph. Each of the three may be float32, float16 or bfloat16: sums are
 * float32 and are rounded once. Operands of one half type go to tensor cores on CUDA, others are multiplied in float32.
 */
export function productInto(action: string, a: Tensor, b: Tensor, out: Tensor, product: Product, accumulate = false): Tensor {
  const { m, n, k, transposeA = false, transposeB = false, scale = 1 } = product;
  const { strideA = transposeA ? m : k, strideB = transposeB ? k : n, strideOut = n } = product;
  if (out.size > 0) {
    kernel('matmul', action)(
      handleOf(a, action),
      handleOf(b, action),
      handleOf(out, action),
      m,
      n,
      k,
      strideA,
      strideB,
      strideOut,
      Number(transposeA),
      Number(transposeB),
      Number(accumulate),
      scale,
    );
  }
  return out;
}

/** op(a)·op(b) as `shape`, outside the graph; m, n and k are those of the product. */
function product(
  action: string,
  a: Tensor,
  b: Tensor,
  shape: readonly number[],
  m: number,
  n: number,
  k: number,
  transposeA: boolean,
  transposeB: boolean,
): Tensor {
  return productInto(action, a, b, emptyLike(a, action, shape), { m, n, k, transposeA, transposeB });
}

export function checkMatrix(action: string, name: string, value: unknown): Tensor {
  const x = checkFloating(action, name, value);
  if (x.shape.length !== 2) throw valueError(action, `${name} must have two dimensions`, phrase(`its shape is ${shapeText(x.shape)}`));
  return x;
}

/** The sums of the first `cols` columns of rows, added up in float32 whatever the dtype. */
export function columnSums(action: string, x: Tensor, rows: number, cols: number, out: Tensor, scale = 1, accumulate = false): Tensor {
  const ones = uniformLike(x, 1, action, [rows]);
  const strideA = x.shape[x.shape.length - 1]!;
  productInto(action, x, ones, out, { m: cols, n: 1, k: rows, strideA, transposeA: true, scale }, accumulate);
  ones.dispose();
  return out;
}

/**
 * The matrix product op(a)·op(b), op being the transpose where asked for. Half types are summed in float32 and rounded once.
 *
 * @param a [m, k], or [k, m] with transposeA; float32, float16, bfloat16, or float64 on the CPU
 * @param b [k, n], or [n, k] with transposeB; of a's dtype
 * @returns [m, n], of that dtype
 * @throws RangeError where the inner extents differ
 */
export const matmul = defineOp({
  name: 'matmul',
  run: (left: Tensor, right: Tensor, options?: MatmulOptions): Computed => {
    const action = 'compute matmul';
    const a = checkMatrix(action, 'a', left);
    const b = checkMatrix(action, 'b', right);
    checkSameDType(action, 'b', b, 'a', a);
    checkSameDevice(action, 'b', b, 'a', a);
    const { transposeA = false, transposeB = false } = checkOptions(action, options, ['transposeA', 'transposeB']);
    checkBoolean(action, 'transposeA', transposeA);
    checkBoolean(action, 'transposeB', transposeB);
    const [m, k] = transposeA ? [a.shape[1]!, a.shape[0]!] : [a.shape[0]!, a.shape[1]!];
    const [inner, n] = transposeB ? [b.shape[1]!, b.shape[0]!] : [b.shape[0]!, b.shape[1]!];
    if (inner !== k) {
      throw valueError(
        action,
        `the inner extents must be equal (a gives ${k})`,
        phrase(`b gives ${inner}: shapes ${shapeText(a.shape)} and ${shapeText(b.shape)}`),
      );
    }
    return {
      out: product(action, a, b, [m, n], m, n, k, transposeA, transposeB),
      inputs: [a, b],
      backward: (gradient, { needs }) => {
        // C = A·B: ∂A = ∂C·Bᵀ and ∂B = Aᵀ·∂C, each transposed once more where its factor was.
        const gradientA = !needs[0]
          ? null
          : transposeA
            ? product(action, b, gradient, a.shape, k, m, n, transposeB, true)
            : product(action, gradient, b, a.shape, m, k, n, false, !transposeB);
        const gradientB = !needs[1]
          ? null
          : transposeB
            ? product(action, gradient, a, b.shape, n, k, m, true, transposeA)
            : product(action, a, gradient, b.shape, k, n, m, !transposeA, false);
        return [gradientA, gradientB];
      },
    };
  },
});

/** What comes behind a linear layer in the same pass over its results. */
export interface Behind {
  activation: 'none' | 'relu' | 'gelu' | 'silu' | 'tanh';
  /** Of dropout; 0 drops nothing. */
  probability: number;
  seed: number;
  offset: number;
}

const linearOp = defineOp({
  name: 'linear',
  run: (input: Tensor, weights: Tensor, bias: Tensor | null | undefined, behind: Behind | null): Computed => {
    const action = 'compute linear';
    const x = checkFloating(action, 'x', input);
    const weight = checkMatrix(action, 'weight', weights);
    checkSameDType(action, 'weight', weight, 'x', x);
    checkSameDevice(action, 'weight', weight, 'x', x);
    const { rows, cols: inputs, leading } = checkRows(action, 'x', x);
    const outputs = weight.shape[0]!;
    if (weight.shape[1] !== inputs) {
      throw valueError(
        action,
        `weight must have shape [outputs, ${inputs}] for x ${shapeText(x.shape)}`,
        phrase(`it has ${shapeText(weight.shape)}`),
      );
    }
    const operands = [x, weight];
    if (bias != null) {
      checkFloating(action, 'bias', bias);
      checkSameDType(action, 'bias', bias, 'x', x);
      checkSameDevice(action, 'bias', bias, 'x', x);
      checkShapeIs(action, 'bias', bias, [outputs], 'like the outputs');
      operands.push(bias);
    }
    const plain = product(action, x, weight, [...leading, outputs], rows, outputs, inputs, false, true);
    const back = (gradient: Tensor, needs: readonly boolean[]): (Tensor | null)[] => [
      needs[0] ? product(action, gradient, weight, x.shape, rows, inputs, outputs, false, false) : null,
      needs[1] ? product(action, gradient, x, weight.shape, outputs, inputs, rows, true, false) : null,
      !needs[2]
        ? null
        : isHalf(x.dtype)
          ? columnSums(action, gradient, rows, outputs, emptyLike(x, action, [outputs]))
          : applyReduce(action, 'sum', gradient, rows, outputs, 0, [outputs]),
    ];
    if (behind === null) {
      if (bias != null) applyBinary(action, 'add', plain, bias, { rows, cols: outputs, how: 'row' }, plain);
      return { out: plain, inputs: operands, backward: (gradient, { needs }) => back(gradient, needs) };
    }
    const { activation, probability, seed, offset } = behind;
    const numbers = [rows, outputs, findCode('activation', activation), probability, seed, offset] as const;
    // The product is what backward starts from; where nothing will, the result takes its place.
    const out = wantsGradient(...operands) ? emptyLike(plain, action) : plain;
    const biasHandle = handleOrNull(bias, action);
    if (out.size > 0) kernel('bias_activation', action)(handleOf(plain, action), biasHandle, handleOf(out, action), ...numbers);
    return {
      out,
      inputs: operands,
      saved: [plain],
      backward: (gradient, { needs }) => {
        const inner = emptyLike(plain, action);
        if (inner.size > 0) {
          const [from, to] = [handleOf(gradient, action), handleOf(inner, action)];
          kernel('bias_activation_backward', action)(handleOf(plain, action), handleOrNull(bias, action), from, to, ...numbers);
        }
        const gradients = back(inner, needs);
        inner.dispose();
        return gradients;
      },
    };
  },
});

/**
 * x·Wᵀ + b over the last dimension.
 *
 * @param x [..., inputs], float32, float16, bfloat16, or float64 on the CPU
 * @param weight [outputs, inputs], of x's dtype
 * @param bias [outputs] of that dtype, or null
 * @returns [..., outputs]
 */
export function linear(x: Tensor, weight: Tensor, bias?: Tensor | null): Tensor {
  return linearOp(x, weight, bias, null);
}

/** dropout(f(x·Wᵀ + b)): the numbers of {@link linear}, the activation and dropout one after the other, in one pass over the product. */
export function linearThen(x: Tensor, weight: Tensor, bias: Tensor | null, behind: Behind): Tensor {
  return linearOp(x, weight, bias, behind);
}
