// Layer normalisation and RMSNorm over the last dimension.
import { defineOp, type Computed } from '../autograd.js';
import { checkComputed, checkNumber, checkOptions, checkRows, checkSameDevice, checkSameDType, checkShapeIs } from '../check.js';
import { valueError } from '../errors.js';
import { kernel } from '../native.js';
import { emptyLike, handleOf, handleOrNull, type Tensor } from '../tensor.js';
import { applyReduce } from './reduce.js';

/** Options of {@link layerNorm} and {@link rmsNorm}. */
export interface NormOptions {
  /** Added to the variance (to the mean square for rmsNorm), at least 0. Default 1e-5 for layerNorm, 1e-6 for rmsNorm. */
  epsilon?: number;
}

function checkParameter(action: string, name: string, value: unknown, x: Tensor, cols: number): Tensor {
  const parameter = checkComputed(action, name, value);
  checkSameDType(action, name, parameter, 'x', x);
  checkSameDevice(action, name, parameter, 'x', x);
  checkShapeIs(action, name, parameter, [cols], 'like the last dimension of x');
  return parameter;
}

function runNorm(
  action: string,
  input: unknown,
  weights: unknown,
  biases: unknown,
  options: NormOptions | undefined,
  defaultEpsilon: number,
  isCentred: boolean,
): Computed {
  const x = checkComputed(action, 'x', input);
  const { rows, cols } = checkRows(action, 'x', x, 1);
  const weight = checkParameter(action, 'weight', weights, x, cols);
  const bias = biases == null ? null : checkParameter(action, 'bias', biases, x, cols);
  const { epsilon = defaultEpsilon } = checkOptions(action, options, ['epsilon']);
  if (!(checkNumber(action, 'epsilon', epsilon) >= 0 && epsilon < Infinity))
    throw valueError(action, 'epsilon must be at least 0 and finite', epsilon);
  const out = emptyLike(x, action);
  const mean = isCentred ? emptyLike(x, action, [rows]) : null;
  const inverse = emptyLike(x, action, [rows]);
  if (x.size > 0) {
    kernel('layer_norm', action)(
      handleOf(x, action),
      handleOf(weight, action),
      handleOrNull(bias, action),
      handleOf(out, action),
      handleOrNull(mean, action),
      handleOf(inverse, action),
      rows,
      cols,
      epsilon,
    );
  }
  return {
    out,
    inputs: bias === null ? [x, weight] : [x, weight, bias],
    saved: mean === null ? [inverse] : [mean, inverse],
    backward: (gradient, { needs }) => {
      const gradientX = emptyLike(x, action);
      const scaled = needs[1] ? emptyLike(x, action) : null;
      if (x.size > 0) {
        kernel('layer_norm_backward', action)(
          handleOf(x, action),
          handleOf(weight, action),
          handleOrNull(mean, action),
          handleOf(inverse, action),
          handleOf(gradient, action),
          handleOf(gradientX, action),
          handleOrNull(scaled, action),
          rows,
          cols,
        );
      }
      const gradientWeight = scaled === null ? null : applyReduce(action, 'sum', scaled, rows, cols, 0, [cols]);
      scaled?.dispose();
      if (bias === null) return [gradientX, gradientWeight];
      return [gradientX, gradientWeight, needs[2] ? applyReduce(action, 'sum', gradient, rows, cols, 0, [cols]) : null];
    },
  };
}

/**
 * (x − μ)/√(σ² + ε)·weight + bias over the last dimension, μ and σ² of the row (Ba, Kiros and Hinton, arXiv 1607.06450, equation 4).
 * Mean and variance are summed in double.
 *
 * @param x [..., cols], float32, or float64 on the CPU; cols >= 1
 * @param weight [cols]
 * @param bias [cols], or null
 * @returns the shape of x
 */
export const layerNorm = defineOp({
  name: 'layerNorm',
  run: (x: Tensor, weight: Tensor, bias?: Tensor | null, options?: NormOptions) =>
    runNorm('compute layerNorm', x, weight, bias, options, 1e-5, true),
});

/**
 * x/√(mean x² + ε)·weight over the last dimension (Zhang and Sennrich, arXiv 1910.07467, equation 4).
 *
 * @param x [..., cols], float32, or float64 on the CPU; cols >= 1
 * @param weight [cols]
 * @returns the shape of x
 */
export const rmsNorm = defineOp({
  name: 'rmsNorm',
  run: (x: Tensor, weight: Tensor, options?: NormOptions) => runNorm('compute rmsNorm', x, weight, null, options, 1e-6, false),
});
