// Which rows of a batch a stage learns from: rules of selection over the library's scores, and what they remember.
import {
  AdaptiveFraction,
  argmaxInTopK,
  rowEntropy,
  rowHellinger,
  topFractionMask,
  type AdaptiveFractionState,
  type Denominator,
} from '../../losses/index.js';
import { gatherRows } from '../../ops/index.js';
import { hostCopy, tensor, type Tensor } from '../../tensor.js';
import type { Selection } from './spec.js';

/** Weights of the rows, and what the mean divides by. */
export interface RowChoice {
  rowWeights?: Tensor;
  denominator?: Denominator;
}

/** What a rule may look at. */
export interface RowEvidence {
  student: Tensor;
  /** The teacher's logits. */
  teacher: Tensor;
  labels: Int32Array;
  /** How far the student is from the target beyond a reference student, for 'adaspec'. */
  gap(reference: string): Tensor;
}

/** Numbers of the rows with a label; all of them where every row has one. */
function labelledRows(labels: Int32Array): Int32Array | null {
  if (!labels.includes(-100)) return null;
  const rows: number[] = [];
  labels.forEach((label, row) => label !== -100 && rows.push(row));
  return Int32Array.from(rows);
}

/** topFractionMask among the rows with a label; the others get 0. */
function maskAmong(scores: Tensor, keep: number, labels: Int32Array): Tensor {
  const rows = labelledRows(labels);
  if (rows === null) return topFractionMask(scores, keep);
  const weights = new Float32Array(labels.length);
  if (rows.length > 0) {
    const own = gatherRows(scores.detach().reshape([labels.length, 1]), rows).reshape([rows.length]);
    const mask = hostCopy(topFractionMask(own, keep), 'select rows');
    rows.forEach((row, i) => (weights[row] = mask[i]!));
  }
  return tensor(weights, { device: scores.device });
}

/** A rule of selection with its memory. */
export class RowSelection {
  private readonly focus: AdaptiveFraction | null;
  private shares: Record<string, number> = {};

  constructor(private readonly rule: Selection | undefined) {
    this.focus = rule?.rule === 'adakd' ? new AdaptiveFraction({ initial: rule.keep ?? 1, least: rule.least ?? 0.1 }) : null;
  }

  /** The rows to learn from. */
  choose({ student, teacher, labels, gap }: RowEvidence): RowChoice {
    const { rule } = this;
    if (rule === undefined) return {};
    const constant = student.detach();
    let rowWeights: Tensor;
    if (rule.rule === 'speckd') rowWeights = argmaxInTopK(constant, teacher, rule.k ?? 5, { otherwise: rule.otherwise ?? 0.01 });
    else if (rule.rule === 'adaspec') rowWeights = maskAmong(gap(rule.reference), rule.keep, labels);
    else if (rule.rule === 'entropy') rowWeights = maskAmong(rowEntropy(rule.of === 'teacher' ? teacher : constant), rule.keep, labels);
    else rowWeights = maskAmong(rowHellinger(constant, teacher), this.focus!.fraction, labels);
    const values = hostCopy(rowWeights, 'read row weights');
    let kept = 0;
    let counted = 0;
    labels.forEach((label, row) => {
      if (label === -100) return;
      counted++;
      if (values[row] === 1) kept++;
    });
    this.shares = { [rule.rule === 'speckd' ? 'acceptance' : 'kept']: counted === 0 ? 0 : kept / counted };
    return { rowWeights, denominator: rule.denominator ?? (rule.rule === 'speckd' ? 'rows' : 'weights') };
  }

  /** Takes in the loss of a step. */
  update(loss: Tensor): void {
    this.focus?.update(loss.item());
  }

  numbers(): Record<string, number> {
    return { ...this.shares };
  }

  words(): Record<string, unknown> {
    return this.focus === null ? {} : { focus: this.focus.state };
  }

  restoreWords(words: Record<string, unknown>): void {
    if (this.focus !== null) this.focus.state = words['focus'] as AdaptiveFractionState;
  }
}
