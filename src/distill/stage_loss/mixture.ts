// Several teachers as one: what each weighs, by rule or learned, and the mixture.
import { copyInto } from '../../arithmetic.js';
import { keep, noGrad } from '../../autograd.js';
import { crossEntropy, rowEntropy } from '../../losses/index.js';
import { add, gather, gatherRows, logSoftmax, logSumExp, mean, neg, scatter, softmax, sub } from '../../ops/index.js';
import type { StoredTensor } from '../../safetensors.js';
import { mixTargets, type DenseTarget } from '../../targets/index.js';
import { hostCopy, stateOf, tensor, type Tensor } from '../../tensor.js';
import type { Device } from '../../device.js';
import { valueError, phrase } from '../../errors.js';
import type { MixWeights } from './spec.js';

/** One teacher of a batch. */
export interface Voice {
  name: string;
  /** Relative to the others. */
  weight: number;
  logits: Tensor;
  /** What may be seen of it: its logits, or its probabilities. */
  target: Tensor | DenseTarget;
}

/** The weights of several teachers, with the parameter of those that are learned. */
export class Mixture {
  /** θ [teachers]; null unless the weights are learned. */
  readonly parameter: Tensor | null;
  private shares: Record<string, number> = {};

  constructor(
    private readonly rule: MixWeights,
    private readonly kind: 'arithmetic' | 'geometric',
    weights: readonly number[],
    device: Device,
  ) {
    // ln w: the learned weights begin as the ones given.
    const start = Float32Array.from(weights, (weight) => Math.log(Math.max(weight, 1e-6)));
    this.parameter = rule === 'learned' ? keep(tensor(start, { device, requiresGrad: true })) : null;
  }

  /**
   * The teachers as one dense target, good at the temperature given, and what the learned weights are trained by (of value 0).
   *
   * @param temperature left out, the mixture is of probabilities at 1
   */
  mix(
    voices: readonly Voice[],
    labels: Int32Array,
    temperature: number | Tensor | undefined,
  ): { target: DenseTarget; extra: Tensor | null } {
    const weights = this.weightsOf(voices, labels);
    const parts = voices.map(({ target }, i) => ({ target, weight: weights[i]! }));
    const options = this.kind === 'geometric' || temperature === undefined ? {} : { temperature };
    voices.forEach(({ name }, i) => {
      const weight = weights[i]!;
      const numbers = typeof weight === 'number' ? [weight] : Array.from(hostCopy(weight, 'read weights'));
      this.shares[`weight.${name}`] = numbers.reduce((sum, value) => sum + value, 0) / numbers.length;
    });
    return { target: mixTargets(parts, { kind: this.kind, ...options }), extra: this.learning(voices, labels) };
  }

  private weightsOf(voices: readonly Voice[], labels: Int32Array): (number | Tensor)[] {
    if (this.rule === 'entropy') {
      const rows = labels.length;
      // softmax over the teachers of ln w − H, one column for each.
      const scores = noGrad(() =>
        voices
          .map(({ logits, weight }, i) => {
            const sure = neg(rowEntropy(logits)).reshape([rows, 1]);
            return scatter(add(sure, Math.log(weight)), [i], voices.length);
          })
          .reduce((sum, each) => add(sum, each)),
      );
      const shares = softmax(scores);
      return voices.map((_, i) => gather(shares, [i]).reshape([rows]));
    }
    let logs = voices.map(({ weight }) => Math.log(weight));
    if (this.rule === 'batch') logs = voices.map(({ logits }, i) => logs[i]! - crossEntropy(logits, labels).item());
    else if (this.parameter !== null) logs = Array.from(hostCopy(this.parameter, 'read weights'));
    const most = Math.max(...logs);
    const powers = logs.map((value) => Math.exp(value - most));
    const total = powers.reduce((sum, value) => sum + value, 0);
    return powers.map((value) => value / total);
  }

  /** −ln Σ softmax(θ)_m p_m(y), averaged over the labelled rows, less its own value: a gradient for θ that leaves the loss as it is. */
  private learning(voices: readonly Voice[], labels: Int32Array): Tensor | null {
    if (this.parameter === null) return null;
    const rows: number[] = [];
    labels.forEach((label, row) => label !== -100 && rows.push(row));
    if (rows.length === 0) return null;
    const chosen = Int32Array.from(rows);
    const columns = tensor(
      Int32Array.from(rows, (row) => labels[row]!),
      { shape: [rows.length, 1], device: voices[0]!.logits.device },
    );
    const known = noGrad(() =>
      voices
        .map(({ logits }, i) => scatter(gather(gatherRows(logSoftmax(logits), chosen), columns), [i], voices.length))
        .reduce((sum, each) => add(sum, each)),
    );
    const nll = neg(mean(logSumExp(add(known, logSoftmax(this.parameter.reshape([1, voices.length]))))));
    this.shares['mixtureNll'] = nll.item();
    return sub(nll, nll.detach());
  }

  numbers(): Record<string, number> {
    return { ...this.shares };
  }

  state(): Record<string, StoredTensor> {
    if (this.parameter === null) return {};
    return { mixture: { dtype: 'float32', shape: this.parameter.shape, data: hostCopy(this.parameter, 'read weights').slice() } };
  }

  restore(state: Record<string, StoredTensor>): void {
    if (this.parameter !== null) restoreParameter(this.parameter, state['mixture'], 'mixture');
  }

  dispose(): void {
    this.parameter?.dispose();
  }
}

/** Overwrites a learned part with what a checkpoint holds of it. */
export function restoreParameter(parameter: Tensor, stored: StoredTensor | undefined, name: string): void {
  const action = 'restore what a stage learned';
  if (stored === undefined) throw valueError(action, `the state must hold '${name}'`, phrase('it does not'));
  if (stored.shape.join() !== parameter.shape.join())
    throw valueError(action, `'${name}' must have shape [${parameter.shape.join(', ')}]`, phrase(`it has [${stored.shape.join(', ')}]`));
  const from = tensor(stored.data, { shape: stored.shape, dtype: stored.dtype, device: parameter.device });
  copyInto(parameter, from, action);
  stateOf(parameter).uniform = null;
  from.dispose();
}
