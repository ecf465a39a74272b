// Every operation, by its public name.
export { add, sub, mul, div } from './binary.js';
export { abs, addScalar, exp, expm1, log, log1p, neg, relu, scale, sigmoid, softplus, sqrt, square, tanh } from './unary.js';
export { mean, sum, type ReduceOptions } from './reduce.js';
export { logSoftmax, softmax, type SoftmaxOptions } from './softmax.js';
export { argmax, topK, type TopK } from './top_k.js';
export { linear, matmul, type MatmulOptions } from './matmul.js';
export { dropout, type DropoutOptions } from './dropout.js';
export { gatherRows, type RowIndices } from './gather_rows.js';
export { gather, scatter, type ColumnIndices } from './gather.js';
export { argsort, sort, type Sorted, type SortOptions } from './sort.js';
export { cumulativeSum, cumulativeLogSumExp, type CumulativeLogSumExpOptions, type CumulativeOptions } from './cumulative.js';
export { logSumExp, type LogSumExpOptions } from './log_sum_exp.js';
export { normalize } from './normalize.js';
export { standardize, type StandardizeOptions } from './standardize.js';
export { soften, softeningOperators, type SoftenOptions, type SofteningOperator, type SofteningOperatorName } from './soften.js';
