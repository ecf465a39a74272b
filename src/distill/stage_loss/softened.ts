// A softening operator on a student's logits, without passing through probabilities that round to 0.
import {
  addScalar,
  argmax,
  div,
  exp,
  expm1,
  gather,
  log,
  log1p,
  scale,
  soften,
  softmax,
  sub,
  add,
  type SofteningOperatorName,
} from '../../ops/index.js';
import type { Tensor } from '../../tensor.js';

// Far below every r that counts, far above the least float32.
const TINY = 1e-30;

/**
 * Logits whose softmax is S_T(softmax(z)); differentiable. With r = p/max p and ln r = z − max z, `'odds'` is ln r − ln(1 + (T − 1)·r)
 * and `'log_link'` ln r + ln(ln(1 + (T − 1)·r)/r): finite where p itself is 0 in float32, and forward KL with it.
 *
 * @param logits [rows, cols]
 */
export function softenedLogits(logits: Tensor, operator: SofteningOperatorName, temperature: number): Tensor {
  if (temperature === 1) return logits;
  if (operator === 'power') return scale(logits, 1 / temperature);
  // No probability of this one is 0.
  if (operator === 'uniform_mix') return log(soften(softmax(logits), { operator, temperature }));
  const largest = gather(logits, argmax(logits.detach().cast('float32')).reshape([logits.shape[0]!, 1]));
  const logRatio = sub(logits, largest);
  const ratio = exp(logRatio);
  if (operator === 'odds') return sub(logRatio, log1p(scale(ratio, temperature - 1)));
  const positive = addScalar(ratio, TINY);
  const bent = temperature > 1 ? log1p(scale(positive, temperature - 1)) : expm1(scale(positive, -Math.log(temperature)));
  return add(logRatio, log(div(bent, positive)));
}
