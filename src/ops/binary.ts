// Element by element with two tensors: add, sub, mul, div, the second one spread over the first where it is smaller.
import { fill } from '../arithmetic.js';
import { defineOp, type Computed } from '../autograd.js';
import { checkComputed, checkFinite, checkSameDevice, checkSameDType, sameShape } from '../check.js';
import { kindError, phrase, shapeText, valueError } from '../errors.js';
import { findCode, kernel } from '../native.js';
import { emptyLike, handleOf, Tensor, uniformLike } from '../tensor.js';
import { applyReduce } from './reduce.js';
import { applyUnary, scaled } from './unary.js';

type Broadcast = 'same' | 'row' | 'column' | 'scalar';

/** How a smaller operand meets [rows, cols]. */
export interface Plan {
  rows: number;
  cols: number;
  how: Broadcast;
}

function product(extents: readonly number[]): number {
  return extents.reduce((size, extent) => size * extent, 1);
}

/** How b meets a, or null where it does not. */
function planOf(a: readonly number[], b: readonly number[]): Plan | null {
  const size = product(a);
  if (sameShape(a, b)) return { rows: 1, cols: size, how: 'same' };
  if (b.length > a.length) return null;
  if (product(b) === 1) return { rows: 1, cols: size, how: 'scalar' };
  const firstReal = b.findIndex((extent) => extent !== 1);
  const tail = b.slice(firstReal);
  if (sameShape(a.slice(a.length - tail.length), tail)) {
    return { rows: product(a.slice(0, a.length - tail.length)), cols: product(tail), how: 'row' };
  }
  if (b.length !== a.length) return null;
  let lastReal = b.length;
  while (lastReal > 0 && b[lastReal - 1] === 1) lastReal--;
  if (!sameShape(a.slice(0, lastReal), b.slice(0, lastReal))) return null;
  return { rows: product(b.slice(0, lastReal)), cols: product(a.slice(lastReal)), how: 'column' };
}

/** Computes a ∘ b outside the graph. */
export function applyBinary(action: string, name: string, a: Tensor, b: Tensor, plan: Plan, out: Tensor = emptyLike(a, action)): Tensor {
  if (a.size === 0) return out;
  const { rows, cols, how } = plan;
  const code = findCode('binary', name);
  kernel('binary', action)(handleOf(a, action), handleOf(b, action), handleOf(out, action), rows, cols, code, findCode('broadcast', how));
  return out;
}

/** The gradient of what was spread: what each of its elements reached, added up. */
function gather(action: string, gradient: Tensor, { rows, cols, how }: Plan, shape: readonly number[]): Tensor {
  if (how === 'same') return gradient;
  return applyReduce(action, 'sum', gradient, rows, cols, how === 'row' ? 0 : 1, shape);
}

/** A smaller tensor spread over a larger shape. */
export function spread(action: string, small: Tensor, shape: readonly number[], rows: number, cols: number, how: Broadcast): Tensor {
  const out = emptyLike(small, action, shape);
  fill(out, 0, action);
  return applyBinary(action, 'add', out, small, { rows, cols, how }, out);
}

function pair(action: string, a: unknown, b: unknown): { a: Tensor; b: Tensor; plan: Plan } {
  const left = checkComputed(action, 'a', a);
  const right = checkComputed(action, 'b', b);
  checkSameDType(action, 'b', right, 'a', left);
  checkSameDevice(action, 'b', right, 'a', left);
  const plan = planOf(left.shape, right.shape);
  if (plan === null) {
    throw valueError(
      action,
      `b must have the shape of a ${shapeText(left.shape)}, of one of its rows or columns, or one element`,
      phrase(`it has ${shapeText(right.shape)}`),
    );
  }
  return { a: left, b: right, plan };
}

function isSmaller(a: unknown, b: unknown): boolean {
  return a instanceof Tensor && b instanceof Tensor && planOf(a.shape, b.shape) === null && planOf(b.shape, a.shape) !== null;
}

const addTensors = defineOp({
  name: 'add',
  run: (left: Tensor, right: Tensor): Computed => {
    const action = 'compute add';
    const { a, b, plan } = pair(action, left, right);
    return {
      out: applyBinary(action, 'add', a, b, plan),
      inputs: [a, b],
      backward: (gradient, { needs }) => [needs[0] ? gradient : null, needs[1] ? gather(action, gradient, plan, b.shape) : null],
    };
  },
});

const subTensors = defineOp({
  name: 'sub',
  run: (left: Tensor, right: Tensor): Computed => {
    const action = 'compute sub';
    const { a, b, plan } = pair(action, left, right);
    return {
      out: applyBinary(action, 'sub', a, b, plan),
      inputs: [a, b],
      backward: (gradient, { needs }) => {
        if (!needs[1]) return [gradient, null];
        const gathered = gather(action, gradient, plan, b.shape);
        const negative = applyUnary(action, 'neg', gathered);
        if (gathered !== gradient) gathered.dispose();
        return [needs[0] ? gradient : null, negative];
      },
    };
  },
});

function gatherAway(action: string, whole: Tensor, plan: Plan, shape: readonly number[]): Tensor {
  const gathered = gather(action, whole, plan, shape);
  if (gathered !== whole) whole.dispose();
  return gathered;
}

const same = (size: number): Plan => ({ rows: 1, cols: size, how: 'same' });

const mulTensors = defineOp({
  name: 'mul',
  run: (left: Tensor, right: Tensor): Computed => {
    const action = 'compute mul';
    const { a, b, plan } = pair(action, left, right);
    return {
      out: applyBinary(action, 'mul', a, b, plan),
      inputs: [a, b],
      backward: (gradient, { needs }) => [
        needs[0] ? applyBinary(action, 'mul', gradient, b, plan) : null,
        needs[1] ? gatherAway(action, applyBinary(action, 'mul', gradient, a, same(a.size)), plan, b.shape) : null,
      ],
    };
  },
});

const divTensors = defineOp({
  name: 'div',
  run: (left: Tensor, right: Tensor): Computed => {
    const action = 'compute div';
    const { a, b, plan } = pair(action, left, right);
    const out = applyBinary(action, 'div', a, b, plan);
    return {
      out,
      inputs: [a, b],
      backward: (gradient, { needs }) => {
        const gradientA = needs[0] ? applyBinary(action, 'div', gradient, b, plan) : null;
        if (!needs[1]) return [gradientA, null];
        // ∂b = −Σ ∂y·y / b
        const gradientB = gatherAway(action, applyBinary(action, 'mul', gradient, out, same(a.size)), plan, b.shape);
        applyBinary(action, 'div', gradientB, b, same(b.size), gradientB);
        return [gradientA, applyUnary(action, 'neg', gradientB, 0, gradientB)];
      },
    };
  },
});

/**
 * a·b with a constant b of a's shape, of one of its columns or rows; exactly 0 where b is 0, whatever a is, and so is its gradient.
 * What NaN and infinities must not come through.
 */
export const silenced = defineOp({
  name: 'silenced',
  run: (left: Tensor, right: Tensor): Computed => {
    const action = 'silence rows';
    const { a, b, plan } = pair(action, left, right);
    return {
      out: applyBinary(action, 'mul0', a, b, plan),
      inputs: [a],
      saved: [b],
      backward: (gradient) => [applyBinary(action, 'mul0', gradient, b, plan)],
    };
  },
});

/** 1 where a < b, else 0 (also for NaN); a constant. b may be smaller, as in {@link add}. */
export const isLess = defineOp({
  name: 'isLess',
  run: (left: Tensor, right: Tensor): Computed => {
    const action = 'compare';
    const { a, b, plan } = pair(action, left, right);
    return { out: applyBinary(action, 'less', a, b, plan), inputs: [a, b], backward: 'not differentiable' };
  },
});

const addNumber = defineOp({
  name: 'add',
  run: (x: Tensor, amount: number): Computed => {
    const action = 'compute add';
    checkComputed(action, 'a', x);
    checkFinite(action, 'the number', amount);
    return { out: applyUnary(action, 'add_scalar', x, amount), inputs: [x], backward: (gradient) => [gradient] };
  },
});

const mulNumber = defineOp({
  name: 'mul',
  run: (x: Tensor, factor: number): Computed => {
    const action = 'compute mul';
    checkComputed(action, 'a', x);
    checkFinite(action, 'the number', factor);
    return { out: applyUnary(action, 'scale', x, factor), inputs: [x], backward: (gradient) => [scaled(action, gradient, factor)] };
  },
});

function numberLike(action: string, like: unknown, value: number): Tensor {
  const x = checkComputed(action, 'the tensor', like);
  checkFinite(action, 'the number', value);
  return uniformLike(x, value, action, [1]);
}

function operands(action: string, a: unknown, b: unknown): void {
  if (!(a instanceof Tensor) && !(b instanceof Tensor)) throw kindError(action, 'a or b must be a Tensor', a);
}

/**
 * a + b. The smaller tensor may be one row ([cols]), one column ([rows, 1]) or one element of the larger; either may be a number.
 *
 * @throws RangeError where the shapes do not meet, TypeError for another dtype
 */
export function add(a: Tensor | number, b: Tensor | number): Tensor {
  operands('compute add', a, b);
  if (typeof b === 'number') return addNumber(a as Tensor, b);
  if (typeof a === 'number') return addNumber(b, a);
  return isSmaller(a, b) ? addTensors(b, a) : addTensors(a, b);
}

/** a − b. b may be one row, one column, one element of a, or a number; a may be a number. */
export function sub(a: Tensor | number, b: Tensor | number): Tensor {
  const action = 'compute sub';
  operands(action, a, b);
  if (typeof b === 'number') return addNumber(a as Tensor, -checkFinite(action, 'b', b));
  if (typeof a === 'number') return addNumber(mulNumber(b, -1), a);
  return isSmaller(a, b) ? addTensors(mulNumber(b, -1), a) : subTensors(a, b);
}

/** a · b, element by element. Shapes as in {@link add}. */
export function mul(a: Tensor | number, b: Tensor | number): Tensor {
  operands('compute mul', a, b);
  if (typeof b === 'number') return mulNumber(a as Tensor, b);
  if (typeof a === 'number') return mulNumber(b, a);
  return isSmaller(a, b) ? mulTensors(b, a) : mulTensors(a, b);
}

/** a / b, element by element. b may be one row, one column, one element of a, or a number; a may be a number. */
export function div(a: Tensor | number, b: Tensor | number): Tensor {
  const action = 'compute div';
  operands(action, a, b);
  if (typeof b === 'number') return divTensors(a as Tensor, numberLike(action, a, b));
  if (typeof a !== 'number') return divTensors(a, b);
  checkComputed(action, 'b', b);
  checkFinite(action, 'a', a);
  return divTensors(uniformLike(b, a, action), b);
}
