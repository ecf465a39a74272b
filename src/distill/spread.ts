// Bias and variance of a run's students over its seeds, against the teacher, on the test rows.
import { biasVariance, type BiasVariance } from './bias_variance.js';
import type { RunContext } from './context.js';
import { testLogits } from './evaluate.js';
import type { ModelResult } from './results.js';

/** Of one stage, or one level of a pruning stage, over its seeds. */
export interface SpreadResult extends BiasVariance {
  stage: string;
  level?: number;
}

/** Logits of all students that are compared at once: no more are kept in memory. */
const MOST_LOGITS = 1 << 25;

/** Bias and variance of each stage that runs for at least two seeds, where the logits of all fit; of none without a teacher that runs once. */
export function spreadsOf(context: RunContext): SpreadResult[] {
  const { source, folder } = context;
  const groups = new Map<string, ModelResult[]>();
  for (const model of folder.state.models) {
    if (model.once) continue;
    const name = `${model.stage}/${model.level ?? ''}`;
    groups.set(name, [...(groups.get(name) ?? []), model]);
  }
  const size = source.testRows * source.rowsEach * source.cols;
  const spreads: SpreadResult[] = [];
  for (const models of groups.values()) {
    const { stage, level } = models[0]!;
    const teachers = new Set(models.map(({ seed }) => context.testTeacher(stage, seed)));
    const [teacher] = teachers;
    if (models.length < 2 || (models.length + 1) * size > MOST_LOGITS || teachers.size > 1 || !teacher) continue;
    const students = models.map((model) => {
      const { model: student } = context.load(model);
      try {
        return testLogits(student, source);
      } finally {
        student.dispose();
      }
    });
    const target = new Float32Array(size);
    let at = 0;
    for (const part of teacher.parts()) {
      target.set(part, at);
      at += part.length;
    }
    spreads.push({ stage, ...(level === undefined ? {} : { level }), ...biasVariance(target, students, source.cols) });
  }
  return spreads;
}
