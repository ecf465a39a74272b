// Element by element: one tensor in, one of the same shape out. y = f(x) and ∂x = ∂y·f'(x), f named in native/core/codes.h.
import { defineOp, type Computed } from '../autograd.js';
import { checkComputed, checkFinite } from '../check.js';
import { findCode, kernel } from '../native.js';
import { emptyLike, handleOf, stateOf, uniformLike, type Tensor } from '../tensor.js';

/** Computes f outside the graph. */
export function applyUnary(action: string, name: string, x: Tensor, parameter = 0, out: Tensor = emptyLike(x, action)): Tensor {
  if (x.size > 0) kernel('unary', action)(handleOf(x, action), handleOf(out, action), x.size, findCode('unary', name), parameter);
  return out;
}

function runUnary(action: string, name: string, input: unknown, parameter = 0): Computed {
  const x = checkComputed(action, 'x', input);
  const out = applyUnary(action, name, x, parameter);
  return {
    out,
    inputs: [x],
    backward: (gradient) => {
      const gradientX = emptyLike(x, action);
      if (x.size > 0) {
        const code = findCode('unary', name);
        kernel('unary_backward', action)(
          handleOf(x, action),
          handleOf(out, action),
          handleOf(gradient, action),
          handleOf(gradientX, action),
          x.size,
          code,
          parameter,
        );
      }
      return [gradientX];
    },
  };
}

/** −x. Shape: any, kept. dtype: float32, or float64 on the CPU. */
export const neg = defineOp({ name: 'neg', run: (x: Tensor) => runUnary('compute neg', 'neg', x) });

/** max(x, 0), with derivative 0 at 0. NaN stays NaN. Shape: any, kept. */
export const relu = defineOp({ name: 'relu', run: (x: Tensor) => runUnary('compute relu', 'relu', x) });

/** e^x. Shape: any, kept. */
export const exp = defineOp({ name: 'exp', run: (x: Tensor) => runUnary('compute exp', 'exp', x) });

/** Natural logarithm; log(0) = −∞, NaN below 0. Shape: any, kept. */
export const log = defineOp({ name: 'log', run: (x: Tensor) => runUnary('compute log', 'log', x) });

/** e^x − 1, exact for small x. Shape: any, kept. */
export const expm1 = defineOp({ name: 'expm1', run: (x: Tensor) => runUnary('compute expm1', 'expm1', x) });

/** ln(1 + x), exact for small x; −∞ at −1, NaN below. Shape: any, kept. */
export const log1p = defineOp({ name: 'log1p', run: (x: Tensor) => runUnary('compute log1p', 'log1p', x) });

/** x². Shape: any, kept. */
export const square = defineOp({ name: 'square', run: (x: Tensor) => runUnary('compute square', 'square', x) });

/** √x, NaN below 0. Shape: any, kept. */
export const sqrt = defineOp({ name: 'sqrt', run: (x: Tensor) => runUnary('compute sqrt', 'sqrt', x) });

/** |x|, with derivative 0 at 0. Shape: any, kept. */
export const abs = defineOp({ name: 'abs', run: (x: Tensor) => runUnary('compute abs', 'abs', x) });

/** Hyperbolic tangent. Shape: any, kept. */
export const tanh = defineOp({ name: 'tanh', run: (x: Tensor) => runUnary('compute tanh', 'tanh', x) });

/** 1 / (1 + e^−x). Shape: any, kept. */
export const sigmoid = defineOp({ name: 'sigmoid', run: (x: Tensor) => runUnary('compute sigmoid', 'sigmoid', x) });

/** ln(1 + e^x) without overflow, exact also where it is small: −ln(1 − σ(x)). Shape: any, kept. */
export const softplus = defineOp({ name: 'softplus', run: (x: Tensor) => runUnary('compute softplus', 'softplus', x) });

/**
 * x·Φ(x), Φ the normal distribution function: the exact GELU (Hendrycks and Gimpel, arXiv 1606.08415), not its tanh approximation.
 * gelu(−∞) = 0. Shape: any, kept. dtype: float32, or float64 on the CPU.
 */
export const gelu = defineOp({ name: 'gelu', run: (x: Tensor) => runUnary('compute gelu', 'gelu', x) });

/** x / (1 + e^−x), also called swish (Elfwing et al., arXiv 1702.03118). silu(−∞) = 0. Shape: any, kept. */
export const silu = defineOp({ name: 'silu', run: (x: Tensor) => runUnary('compute silu', 'silu', x) });

/** x · factor for a finite number. Shape: any, kept. */
export const scale = defineOp({
  name: 'scale',
  run: (x: Tensor, factor: number): Computed => {
    const action = 'compute scale';
    checkComputed(action, 'x', x);
    checkFinite(action, 'factor', factor);
    const { out, inputs } = runUnary(action, 'scale', x, factor);
    return { out, inputs, backward: (gradient) => [scaled(action, gradient, factor)] };
  },
});

/** x + amount for a finite number. Shape: any, kept. */
export const addScalar = defineOp({
  name: 'addScalar',
  run: (x: Tensor, amount: number): Computed => {
    const action = 'compute addScalar';
    checkComputed(action, 'x', x);
    checkFinite(action, 'amount', amount);
    const { out, inputs } = runUnary(action, 'add_scalar', x, amount);
    return { out, inputs, backward: (gradient) => [gradient] };
  },
});

/** gradient · factor; a gradient known to be uniform stays known. */
export function scaled(action: string, gradient: Tensor, factor: number): Tensor {
  const { uniform } = stateOf(gradient);
  return uniform === null ? applyUnary(action, 'scale', gradient, factor) : uniformProduct(action, gradient, uniform, factor);
}

/** A tensor like another whose elements are all value · factor, rounded as its dtype does. */
export function uniformProduct(action: string, like: Tensor, value: number, factor: number): Tensor {
  const product = value * factor;
  return uniformLike(like, like.dtype === 'float64' ? product : Math.fround(product), action);
}
