// How much of adaptive KL is forward KL in each row: a constant, from where student and teacher differ.
import { noGrad, tidy } from '../autograd.js';
import { add, isLess, mul, sub, div } from '../ops/binary.js';
import { cumulativeSum } from '../ops/cumulative.js';
import { gather } from '../ops/gather.js';
import { sum } from '../ops/reduce.js';
import { softmax } from '../ops/softmax.js';
import { argsort } from '../ops/sort.js';
import { abs, addScalar, log, scale } from '../ops/unary.js';
import { InterpolatedTarget } from '../targets/interpolate.js';
import { DenseTarget } from '../targets/target.js';
import { full, tensor, view, type Tensor } from '../tensor.js';

// Where the two sides agree in every column, both halves get the same.
const smallest = 1e-30;

/**
 * a = g_head/(g_head + g_tail) with g = Σ|p − q|; the head of a row is the fewest columns that hold at least `head` of the teacher's mass, ties
 * by the lowest column (AKL, Wu et al. 2024, arXiv 2404.02657). Composed of operations: some arrays of the student's size for the time of the call.
 *
 * @param cols the first columns, which count
 * @returns float32 [rows]
 */
export function headShare(
  student: Tensor,
  target: DenseTarget | InterpolatedTarget | Tensor,
  { rows, cols, temperature, head }: { rows: number; cols: number; temperature: number | Tensor; head: number },
): Tensor {
  return tidy(() =>
    noGrad(() => {
      const dtype = student.dtype === 'float64' ? 'float64' : 'float32';
      const wide = (x: Tensor): Tensor => x.detach().cast(dtype);
      const valid = (x: Tensor): Tensor => {
        const flat = view(wide(x), [rows, x.size / rows]);
        return x.size / rows === cols
          ? flat
          : gather(
              flat,
              Int32Array.from({ length: cols }, (_, i) => i),
            );
      };
      const probabilities = (logits: Tensor): Tensor => softmax(logits, { temperature });
      const logitsOf = (): Tensor => {
        // At an end there is one side, whatever the other excludes.
        if (target instanceof InterpolatedTarget && (target.t === 0 || target.t === 1))
          return valid(target.t === 0 ? target.student : target.teacher);
        if (target instanceof InterpolatedTarget)
          return add(scale(valid(target.student), 1 - target.t), scale(valid(target.teacher), target.t));
        if (!(target instanceof DenseTarget)) return valid(target);
        return target.kind === 'probs' ? log(valid(target.values)) : valid(target.values);
      };
      const logits = logitsOf();
      const p = probabilities(logits);
      const order = argsort(logits); // equal logits may differ in the last bit of p
      const falling = gather(p, order);
      const differences = gather(sub(p, probabilities(valid(student))), order);
      const before = sub(cumulativeSum(falling), falling);
      const inHead = isLess(before, full([1], head, { dtype, device: before.device }));
      // The first column's difference is that of all others: where both sides are nearly 1 there, its own has no digits left.
      const others = Array.from({ length: cols }, (_, i) => Math.min(i, 1));
      const rest = mul(differences, tensor(others, { dtype, device: differences.device }));
      const first = abs(sum(rest, { axis: -1 }));
      const gaps = abs(rest);
      const inside = add(scale(first, head > 0 ? 1 : 0), sum(mul(gaps, inHead), { axis: -1 }));
      const share = div(addScalar(inside, smallest), addScalar(add(first, sum(gaps, { axis: -1 })), 2 * smallest));
      return share.cast('float32');
    }),
  );
}
