// Several targets at once: sums of losses, and heads of a student that each have their own.
import { phrase, valueError } from '../../errors.js';
import { add, scale } from '../../ops/index.js';
import type { StoredTensor } from '../../safetensors.js';
import type { Tensor } from '../../tensor.js';
import { scheduledValue } from './schedule.js';
import type { HeadsTarget, SumTarget } from './spec.js';
import type { StageBatch, StageLoss, StudentOutput } from './types.js';

/** Keeps the parts of several losses apart by a number in front of their names. */
abstract class Parts implements StageLoss {
  protected found: Record<string, number> = {};

  constructor(protected readonly losses: readonly StageLoss[]) {}

  abstract of(student: StudentOutput, batch: StageBatch): Tensor;

  parameters(): Tensor[] {
    return this.losses.flatMap((loss) => loss.parameters());
  }

  state(): Record<string, StoredTensor> {
    return this.gathered((loss) => loss.state());
  }

  restore(state: Record<string, StoredTensor>): void {
    this.losses.forEach((loss, i) => {
      const own = Object.entries(state).filter(([name]) => name.startsWith(`${i}.`));
      loss.restore(Object.fromEntries(own.map(([name, stored]) => [name.slice(`${i}.`.length), stored])));
    });
  }

  words(): Record<string, unknown> {
    return Object.fromEntries(this.losses.map((loss, i) => [String(i), loss.words()]));
  }

  restoreWords(words: Record<string, unknown>): void {
    this.losses.forEach((loss, i) => loss.restoreWords((words[String(i)] ?? {}) as Record<string, unknown>));
  }

  numbers(): Record<string, number> {
    return { ...this.found, ...this.gathered((loss) => loss.numbers()) };
  }

  dispose(): void {
    for (const loss of this.losses) loss.dispose();
  }

  private gathered<T>(of: (loss: StageLoss) => Record<string, T>): Record<string, T> {
    return Object.fromEntries(this.losses.flatMap((loss, i) => Object.entries(of(loss)).map(([name, value]) => [`${i}.${name}`, value])));
  }
}

/** Σ w·loss; a weight of 'ratio' makes its part as large as the first, Minitron's sg(L_logit/L_is) (arXiv 2407.14679). */
export class SumLoss extends Parts {
  constructor(
    private readonly spec: SumTarget,
    losses: readonly StageLoss[],
  ) {
    super(losses);
  }

  of(student: StudentOutput, batch: StageBatch): Tensor {
    this.found = {};
    let total: Tensor | null = null;
    let first = 0;
    this.losses.forEach((loss, i) => {
      const { weight } = this.spec.parts[i]!;
      if (weight === 0) return;
      const own = loss.of(student, batch);
      const value = own.item();
      if (i === 0) first = value;
      // Where there is nothing left to learn, there is nothing to weigh.
      const factor = weight === 'ratio' ? (value === 0 ? 1 : first / value) : scheduledValue(weight, batch.step, batch.steps);
      this.found[`${i}.loss`] = value;
      if (typeof weight !== 'number') this.found[`${i}.weight`] = factor;
      const part = factor === 1 ? own : scale(own, factor);
      total = total === null ? part : add(total, part);
    });
    if (total === null) throw valueError('add up losses', 'at least one part must have a weight above 0', phrase('none has'));
    return total;
  }
}

/** Σ w·loss over the heads of a student; for the others the last head is the teacher called 'self'. */
export class HeadsLoss extends Parts {
  constructor(
    private readonly spec: HeadsTarget,
    losses: readonly StageLoss[],
  ) {
    super(losses);
  }

  of(student: StudentOutput, batch: StageBatch): Tensor {
    this.found = {};
    let self: StudentOutput | null = null;
    const seen: StageBatch = {
      ...batch,
      teacher: (name) => (name === 'self' ? (self ??= { logits: student.logits.detach(), features: [] }) : batch.teacher(name)),
    };
    let total: Tensor | null = null;
    this.losses.forEach((loss, i) => {
      const { head, weight = 1 } = this.spec.heads[i]!;
      const exits = student.exits ?? [];
      const logits = head === 'final' ? student.logits : exits[head as number];
      if (logits === undefined)
        throw valueError('learn by heads', `head ${head} must be one of the model's exits`, phrase(`it has ${exits.length}`));
      const own = loss.of({ logits, features: student.features }, seen);
      this.found[`${i}.loss`] = own.item();
      const part = weight === 1 ? own : scale(own, weight);
      total = total === null ? part : add(total, part);
    });
    return total!;
  }
}
