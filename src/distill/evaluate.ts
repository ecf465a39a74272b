// Measures a model on the test rows, a part of them at a time.
import { noGrad, tidy } from '../autograd.js';
import type { Module } from '../nn/index.js';
import { hostCopy } from '../tensor.js';
import { output } from './build.js';
import { Evaluator, type Evaluation } from './metrics.js';
import type { DataSource } from './source.js';

// As many as the perceptrons of earlier versions were evaluated with at once, so that their numbers stay.
const MOST_ROWS = 1000;
const MOST_LOGITS = 1 << 22;
/** Logits of a whole test set are kept in memory up to this many. */
const KEPT_LOGITS = 1 << 25;
/** A point of a learning curve looks at no more logits than this. */
const POINT_LOGITS = 1 << 24;

/** How many test rows are run at once. */
function partRows({ rowsEach, cols }: DataSource): number {
  return Math.max(1, Math.min(MOST_ROWS, Math.floor(MOST_LOGITS / (rowsEach * cols))));
}

/** One part of the test rows: logits row after row, and labels. */
interface Part {
  from: number;
  logits: Float32Array;
  labels: Int32Array;
}

/** A model's logits on the first `limit` test rows, part by part, in evaluation mode. */
export function* testParts(model: Module, source: DataSource, limit = source.testRows): Generator<Part> {
  const wasTraining = model.training;
  model.eval();
  try {
    const step = partRows(source);
    for (let from = 0; from < limit; from += step) {
      yield tidy(() =>
        noGrad(() => {
          const { input, labels } = source.test(from, Math.min(step, limit - from));
          const { logits } = output(model, input, source.cols);
          return { from, logits: hostCopy(logits, 'evaluate').slice() as Float32Array, labels };
        }),
      );
    }
  } finally {
    model.train(wasTraining);
  }
}

/** Logits of all test rows. */
export function testLogits(model: Module, source: DataSource): Float32Array {
  const { rowsEach, cols, testRows } = source;
  const all = new Float32Array(testRows * rowsEach * cols);
  for (const { from, logits } of testParts(model, source)) all.set(logits, from * rowsEach * cols);
  return all;
}

/** A model that others are measured against, on the test rows. */
export class TestTeacher {
  private readonly kept: Float32Array | null;

  constructor(
    private readonly model: Module,
    private readonly source: DataSource,
  ) {
    const isSmall = source.testRows * source.rowsEach * source.cols <= KEPT_LOGITS;
    this.kept = isSmall ? testLogits(model, source) : null;
    if (isSmall) model.dispose();
  }

  /** Its logits, part by part as {@link testParts} gives them. */
  *parts(): Generator<Float32Array> {
    if (this.kept === null) {
      for (const { logits } of testParts(this.model, this.source)) yield logits;
      return;
    }
    const step = partRows(this.source) * this.source.rowsEach * this.source.cols;
    for (let from = 0; from < this.kept.length; from += step) yield this.kept.subarray(from, from + step);
  }

  dispose(): void {
    if (this.kept === null) this.model.dispose();
  }
}

/** What is measured of a model on the test rows of one domain. */
export type DomainEvaluation = Pick<Required<Evaluation>, 'rows' | 'accuracy' | 'nll' | 'perplexity'> & Pick<Evaluation, 'klToTeacher'>;

/**
 * All that is measured of a model at the end of its stage.
 *
 * @param byDomain also by domain, of those that have test rows
 */
export function evaluateModel(
  model: Module,
  source: DataSource,
  teacher: TestTeacher | null,
  byDomain = false,
): { evaluation: Evaluation; domains?: Record<string, DomainEvaluation> } {
  const { cols, rowsEach, domains = [], testDomains = [] } = source;
  const evaluator = new Evaluator({ cols });
  const evaluators = byDomain ? domains.map(() => new Evaluator({ cols })) : [];
  const others = teacher?.parts();
  for (const { from, logits, labels } of testParts(model, source)) {
    const other = others?.next().value as Float32Array | undefined;
    evaluator.add(logits, labels, other);
    // A label of −100 leaves a row out: each domain's evaluator walks its own rows alone.
    evaluators.forEach((each, d) => {
      const own = labels.map((label, i) => (testDomains[from + Math.floor(i / rowsEach)] === d ? label : -100));
      each.add(logits, own, other);
    });
  }
  const evaluation = evaluator.result(source.testBytes === undefined ? {} : { bytes: source.testBytes });
  if (!byDomain) return { evaluation };
  const found = domains.flatMap((name, d) => {
    if (evaluators[d]!.rows === 0) return [];
    const { rows, accuracy, nll, perplexity, klToTeacher } = evaluators[d]!.result();
    return [[name, { rows, accuracy, nll, perplexity, ...(klToTeacher === undefined ? {} : { klToTeacher }) }] as const];
  });
  return { evaluation, domains: Object.fromEntries(found) };
}

/** What a point of a learning curve shows. */
export function evaluatePoint(model: Module, source: DataSource): { accuracy: number; nll: number } {
  const evaluator = new Evaluator({ cols: source.cols });
  const limit = Math.max(1, Math.min(source.testRows, Math.floor(POINT_LOGITS / (source.rowsEach * source.cols))));
  for (const { logits, labels } of testParts(model, source, limit)) evaluator.add(logits, labels);
  const { accuracy, nll } = evaluator.result();
  return { accuracy, nll };
}
