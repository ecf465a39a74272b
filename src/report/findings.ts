// Says in words what a run's numbers show, also where distilling does not win.
import { meanAndDeviation } from '../distill/metrics.js';
import type { CaptureResult, ModelResult, TableRow } from '../distill/results.js';
import { count, size } from '../distill/results.js';

interface Measure {
  name: string;
  /** +1 where more is better. */
  better: 1 | -1;
  read: (model: ModelResult) => number;
  unit: (value: number) => string;
}

const points = (value: number) => `${(value * 100).toFixed(2)} points`;
const measures: Measure[] = [
  { name: 'accuracy', better: 1, read: (m) => m.evaluation.accuracy, unit: points },
  { name: 'NLL', better: -1, read: (m) => m.evaluation.nll, unit: (v) => v.toFixed(4) },
  { name: 'calibration error', better: -1, read: (m) => m.evaluation.ece, unit: points },
  { name: 'agreement with the teacher', better: 1, read: (m) => m.agreement ?? NaN, unit: points },
];

/** Two models compared seed by seed on one measure. */
export interface Comparison {
  name: string;
  /** Mean of first − second over the seeds, positive where the first is better. */
  gain: number;
  /** Standard error of that mean. */
  error: number;
  wins: number;
  seeds: number;
  verdict: 'wins' | 'loses' | 'undecided';
  text: string;
}

/** Compares two groups of models, paired by seed. A difference counts where every seed has its sign and it is over twice its standard error. */
export function compare(first: readonly ModelResult[], second: readonly ModelResult[]): Comparison[] {
  const bySeed = new Map(second.map((m) => [m.seed, m]));
  const pairs = first.filter((m) => bySeed.has(m.seed)).map((m) => [m, bySeed.get(m.seed)!] as const);
  if (pairs.length === 0) return [];
  return measures.flatMap(({ name, better, read, unit }) => {
    const gains = pairs.map(([a, b]) => better * (read(a) - read(b)));
    if (gains.some(Number.isNaN)) return [];
    const { mean: gain, deviation } = meanAndDeviation(gains);
    const error = deviation / Math.sqrt(gains.length);
    const wins = gains.filter((g) => g > 0).length;
    const isClear = gains.length > 1 && Math.abs(gain) > 2 * error && (wins === gains.length || gains.every((g) => g < 0));
    const verdict = !isClear ? 'undecided' : gain > 0 ? 'wins' : 'loses';
    return [{ name, gain, error, wins, seeds: gains.length, verdict, text: `${name} (${unit(Math.abs(gain))})` }];
  });
}

function list(parts: readonly string[]): string {
  if (parts.length < 2) return parts.join('');
  return `${parts.slice(0, -1).join(', ')} and ${parts.at(-1)}`;
}

function seedsText(n: number): string {
  return n === 1 ? 'one seed' : `${n} seeds`;
}

function verdictText(subject: string, against: string, comparisons: readonly Comparison[]): string[] {
  const seeds = comparisons[0]?.seeds ?? 0;
  if (seeds === 0) return [];
  if (seeds === 1) {
    const better = comparisons.filter((c) => c.gain > 0).map((c) => c.text);
    const worse = comparisons.filter((c) => c.gain < 0).map((c) => c.text);
    const parts = [better.length > 0 ? `is better in ${list(better)}` : '', worse.length > 0 ? `is worse in ${list(worse)}` : ''].filter(
      (t) => t !== '',
    );
    return [
      `On one seed ${subject} ${parts.length > 0 ? list(parts) : 'is no different'} against ${against}; one seed cannot tell that from chance.`,
    ];
  }
  const texts: string[] = [];
  const of = (verdict: Comparison['verdict']) => comparisons.filter((c) => c.verdict === verdict);
  if (of('wins').length > 0)
    texts.push(`Against ${against}, ${subject} is better in ${list(of('wins').map((c) => c.text))}, for every one of ${seedsText(seeds)}.`);
  if (of('loses').length > 0)
    texts.push(
      `${capital(subject)} does not win everywhere: it is worse than ${against} in ${list(of('loses').map((c) => c.text))}, for every seed.`,
    );
  if (of('undecided').length > 0) {
    const details = of('undecided').map((c) => `${c.name} (better for ${c.wins} of ${c.seeds})`);
    texts.push(
      `The ${seedsText(seeds)} do not decide between ${subject} and ${against} in ${list(details)}: the difference is within the spread of the seeds.`,
    );
  }
  if (of('wins').length === 0) texts.push(`On this data, ${subject} has no measurable advantage over ${against}.`);
  return texts;
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

const percent = (share: number, digits = 2) => `${(share * 100).toFixed(digits)} %`;

/** The findings of a run, one sentence or two each. */
export function findings(
  models: readonly ModelResult[],
  captures: readonly CaptureResult[],
  table: readonly TableRow[],
  trainRows: number,
): string[] {
  const texts: string[] = [];
  const stagesOf = (stage: string, level?: number) => models.filter((m) => m.stage === stage && (level === undefined || m.level === level));
  const rowOf = (stage: string, level?: number) => table.find((r) => r.stage === stage && r.level === level);
  const capture = captures[0];
  const teacher = capture && rowOf(capture.from);

  if (teacher) {
    texts.push(
      `The teacher has ${count(teacher.parameters)} parameters and reads ${percent(teacher.accuracy.mean)} of the test digits, with NLL ${teacher.nll.mean.toFixed(4)} and a calibration error of ${percent(teacher.ece.mean)}.`,
    );
  }
  if (capture) {
    const dense = trainRows * capture.cols * 4;
    texts.push(
      `Its targets for ${count(capture.rows)} training rows take ${size(capture.bytes)} on disk (${percent(capture.bytes / dense, 0)} of dense float32 probabilities): the ${capture.k} best of ${capture.cols} classes at temperature ${capture.temperature}, with ${percent(capture.meanTail)} of the probability left to the tail.`,
    );
  }

  const trained = [...new Set(models.filter((m) => m.kind === 'train' && !m.once).map((m) => m.stage))];
  const distilled = trained.filter((stage) => stagesOf(stage)[0]!.target === 'captured');
  const labelled = trained.filter((stage) => stagesOf(stage)[0]!.target === 'labels');
  for (const a of distilled) {
    for (const b of labelled) {
      const [first, second] = [rowOf(a)!, rowOf(b)!];
      if (first.parameters !== second.parameters) continue;
      const comparisons = compare(stagesOf(a), stagesOf(b));
      const winsAccuracy = comparisons.some((c) => c.name === 'accuracy' && c.verdict === 'wins');
      const size = teacher ? `, ${percent(first.parameters / teacher.parameters, 1)} of the teacher's,` : '';
      texts.push(
        `With ${count(first.parameters)} parameters${size} the student reads ${percent(first.accuracy.mean)} distilled and ${percent(second.accuracy.mean)} from the labels alone.`,
        ...verdictText('distilling', 'the labels alone', comparisons),
      );
      if (teacher) {
        const gap = teacher.accuracy.mean - second.accuracy.mean;
        const closed = (first.accuracy.mean - second.accuracy.mean) / gap;
        if (gap > 0 && winsAccuracy)
          texts.push(`Distilling closes ${percent(closed, 0)} of the gap in accuracy between that student and the teacher.`);
        if (first.accuracy.mean < teacher.accuracy.mean) {
          texts.push(
            `It does not replace the teacher: ${percent(teacher.accuracy.mean - first.accuracy.mean)} of the test digits lie between the two.`,
          );
        }
      }
    }
  }

  const pruned = [...new Set(models.filter((m) => m.kind === 'prune').map((m) => m.stage))];
  for (const staged of pruned) {
    const levels = [...new Set(stagesOf(staged).map((m) => m.level!))];
    const last = levels.at(-1)!;
    const end = rowOf(staged, last)!;
    if (levels.length < 2) continue;
    const before = distilled.map((stage) => rowOf(stage)!).find((row) => row.parameters === end.parameters);
    if (before) {
      const loss = before.accuracy.mean - end.accuracy.mean;
      const change =
        loss > 0 ? `costs ${(loss * 100).toFixed(2)} points of accuracy` : `costs no accuracy (${(-loss * 100).toFixed(2)} points more)`;
      texts.push(
        `Pruning in ${levels.length} levels to ${percent(end.sparsity, 1)} zeros leaves ${count(end.nonZero)} of ${count(end.parameters)} parameters and ${change}.`,
      );
    }
    for (const once of pruned) {
      const other = rowOf(once, 0);
      if (once === staged || !other || stagesOf(once).some((m) => m.level! > 0) || Math.abs(other.sparsity - end.sparsity) > 1e-9) continue;
      texts.push(...verdictText('pruning in stages', 'one shot with as many steps', compare(stagesOf(staged, last), stagesOf(once, 0))));
      const rivals = labelled.map((stage) => rowOf(stage)!).filter((row) => row.parameters === end.parameters);
      for (const rival of rivals) {
        const better = end.accuracy.mean > rival.accuracy.mean;
        texts.push(
          better
            ? `With ${percent(end.nonZero / end.parameters, 0)} of its parameters left, the pruned student (${percent(end.accuracy.mean)}) still reads more than the full student that had only labels (${percent(rival.accuracy.mean)}).`
            : `The pruned student (${percent(end.accuracy.mean)}) stays below the full student that had only labels (${percent(rival.accuracy.mean)}).`,
        );
      }
    }
  }
  return texts;
}
