// Bi-directional logit-difference losses: what matters are the differences between the leading logits.
import { tidy } from '../autograd.js';
import { checkBoolean, checkOneOf, checkOptions, checkPositive, checkWhole } from '../check.js';
import { add, sub } from '../ops/binary.js';
import { gather, gatherDistinct } from '../ops/gather.js';
import { argsort } from '../ops/sort.js';
import { topK } from '../ops/top_k.js';
import { fromArray, hostCopy, type Tensor } from '../tensor.js';
import { kdLoss } from './kd_loss.js';
import { checkRowsOf, checkTeacher, composedNames, composeRowLoss, constants, faultOf, type ComposedLossOptions } from './row_loss.js';

/** Options of {@link bildLoss} and {@link dbildLoss}. */
export interface BildOptions extends ComposedLossOptions {
  /** How many of the leading logits, in [2, 64] and at most cols. Default 8. */
  k?: number;
  /** T of the differences (z_i − z_j)/T, a positive number. Default 3. */
  temperature?: number;
  /** Multiplies by T². Default false, as published. */
  temperatureSquared?: boolean;
  /** Whose k largest logits are compared; 'both' adds the two losses. Default 'both'. */
  lead?: 'teacher' | 'student' | 'both';
  /** KL(teacher ‖ student) or KL(student ‖ teacher) over the pairs. Default 'forward' for {@link bildLoss}, 'reverse' for {@link dbildLoss}. */
  direction?: 'forward' | 'reverse';
}

/** The columns of the k largest of each row; float64 through a sort. */
function leading(action: string, x: Tensor, rows: number, cols: number, k: number): Tensor {
  if (x.dtype === 'float32') return topK(x, k).indices;
  const order = hostCopy(argsort(x), action);
  const best = Int32Array.from({ length: rows * k }, (_, i) => order[Math.floor(i / k) * cols + (i % k)]!);
  return fromArray(best, 'int32', [rows, k], -1, action);
}

function pairs(k: number): { first: number[]; second: number[] } {
  const first: number[] = [];
  const second: number[] = [];
  for (let i = 0; i < k; i++)
    for (let j = i + 1; j < k; j++) {
      first.push(i);
      second.push(j);
    }
  return { first, second };
}

const optionNames = [...composedNames, 'k', 'temperature', 'temperatureSquared', 'lead', 'direction'] as const;

function run(name: string, student: Tensor, teacher: Tensor, options: BildOptions | undefined, usual: 'forward' | 'reverse'): Tensor {
  return tidy(() => {
    const action = `compute ${name}`;
    const given = checkOptions(action, options, optionNames);
    const rows = checkRowsOf(action, 'student', student);
    const logits = checkTeacher(action, teacher, rows);
    const { k = 8, temperature = 3, temperatureSquared = false, lead = 'both', direction = usual } = given;
    checkWhole(action, 'k', k, 2, Math.min(64, rows.cols));
    checkPositive(action, 'temperature', temperature);
    checkBoolean(action, 'temperatureSquared', temperatureSquared);
    checkOneOf(action, 'lead', lead, ['teacher', 'student', 'both']);
    checkOneOf(action, 'direction', direction, ['forward', 'reverse']);
    const { first, second } = pairs(k);
    const divergence = direction === 'forward' ? 'forward_kl' : 'reverse_kl';
    return composeRowLoss(action, rows, given, null, (z) => {
      const differences = (x: Tensor, order: Tensor): Tensor => {
        const best = gatherDistinct(x, order);
        return sub(gather(best, first), gather(best, second));
      };
      // KL over the softmax of the k(k − 1)/2 differences is the dense loss of that many classes.
      const led = (by: Tensor): Tensor => {
        const order = leading(action, by.detach(), rows.rows, rows.cols, k);
        const wanted = constants(() => differences(logits, order));
        return kdLoss(differences(z, order), wanted, { divergence, temperature, temperatureSquared, reduction: 'none' });
      };
      const loss = lead === 'both' ? add(led(logits), led(z)) : led(lead === 'teacher' ? logits : z);
      return add(loss, add(faultOf(action, z.detach(), rows.rows, rows.cols), faultOf(action, logits, rows.rows, rows.cols)));
    });
  });
}

/**
 * BiLD (arXiv 2406.13555): for the k largest logits in order, d_ij = (z_i − z_j)/T over i < j, P and Q the softmax of the teacher's
 * and the student's differences,
 *
 * row = w · KL(P ‖ Q),  ∂/∂z_i = (1/T)·[Σ_{j>i} (Q_ij − P_ij) − Σ_{h<i} (Q_hi − P_hi)],
 *
 * once with the teacher's k largest and once with the student's, whose choice has no gradient. Memory: a few times rows × k(k − 1)/2.
 * With k = 2 there is one pair and nothing to learn.
 *
 * @param student logits [..., cols], float32, or float64 on the CPU; −∞ among a row's k largest makes the row NaN
 * @param teacher logits of the same shape
 * @returns a single number, or with reduction 'none' one for each row in the student's leading shape
 * @throws RangeError for k outside [2, min(64, cols)]
 */
export function bildLoss(student: Tensor, teacher: Tensor, options?: BildOptions): Tensor {
  return run('bildLoss', student, teacher, options, 'forward');
}

/** DBiLD, as Switch-KD uses it (2026): {@link bildLoss} with the reverse direction, KL(Q ‖ P), on both selections. */
export function dbildLoss(student: Tensor, teacher: Tensor, options?: BildOptions): Tensor {
  return run('dbildLoss', student, teacher, options, 'reverse');
}
