// The numbers that the report's charts draw, as the page's script receives them.
import { spreadsOf, type KeptSpreads, type Spread } from '../cache/summary.js';
import { meanAndDeviation } from '../distill/metrics.js';
import type { ModelResult, Results } from '../distill/results.js';

/** One point of a curve over the seeds. */
export interface CurveMark {
  series: string;
  epoch: number;
  mean: number;
  low: number;
  high: number;
}

export interface ReliabilityMark {
  confidence: number;
  accuracy: number;
  count: number;
}

export interface SparsityMark {
  series: string;
  sparsity: number;
  mean: number;
  low: number;
  high: number;
}

/** One bar: how many rows lie in [from, to). */
export interface HistogramBin {
  from: number;
  to: number;
  rows: number;
}

export interface ChartData {
  series: string[];
  error: CurveMark[];
  nll: CurveMark[];
  pruning: CurveMark[];
  reliability: { title: string; ece: number; bins: ReliabilityMark[] }[];
  sparsity: SparsityMark[];
  /** Lines across the sparsity plot: models that are not pruned. */
  levels: { title: string; mean: number }[];
  /** Mean training loss in each epoch, the stages one after another. */
  loss: CurveMark[];
  /** Where stages and levels begin in `loss`, numbered from 1 in the order of the recipe. */
  starts: { epoch: number; number: string; title: string }[];
  histograms: { label: string; unit: string; bins: HistogramBin[] }[];
  /** KL divergence to the teacher by generation of a recursion; 0 is what it started from. */
  generations: CurveMark[];
  /** What probes draw. */
  plots: PlotData[];
  /** Of the pages of text: what is said of each token, in the order of the cells. */
  tokens: string[];
}

/** Lines over a common x. */
export interface PlotData {
  title: string;
  xLabel: string;
  yLabel: string;
  isLogarithmic: boolean;
  marks: { series: string; x: number; y: number }[];
}

/** A page without plots. */
export const noCharts: ChartData = {
  series: [],
  error: [],
  nll: [],
  pruning: [],
  reliability: [],
  sparsity: [],
  levels: [],
  loss: [],
  starts: [],
  histograms: [],
  generations: [],
  plots: [],
  tokens: [],
};

/** The histograms of what a sparse target keeps, one for each of {@link spreadsOf}. */
export const keptHistograms = (kept: KeptSpreads): ChartData['histograms'] =>
  spreadsOf(kept).map(({ title, spread }) => ({ label: title, unit: 'rows', bins: binsOf(spread) }));

export const binsOf = ({ from, width, bins }: Spread): HistogramBin[] =>
  bins.map((rows, i) => ({ from: from + i * width, to: from + (i + 1) * width, rows }));

const percent = (value: number) => 100 * value;

function spread(values: readonly number[]): { mean: number; low: number; high: number } {
  return { mean: meanAndDeviation(values).mean, low: Math.min(...values), high: Math.max(...values) };
}

function curve(
  models: readonly ModelResult[],
  series: string,
  read: (point: ModelResult['curve'][number]) => number,
  offset = 0,
): CurveMark[] {
  const first = models[0];
  if (!first) return [];
  return first.curve.map((point, i) => ({
    series,
    epoch: Number((offset + point.epoch).toFixed(3)),
    ...spread(models.flatMap((m) => (m.curve[i] ? [read(m.curve[i])] : []))),
  }));
}

/** Chart data of a run. */
export function chartData(results: Results): ChartData {
  const { models, table } = results;
  const of = (stage: string, level?: number) => models.filter((m) => m.stage === stage && m.level === level);
  // Of a recursion the last generation stands for all in the learning curves; the others have a plot of their own.
  const last = new Map(models.flatMap((m) => (m.generation === undefined ? [] : [[m.of, m.stage] as const])));
  const stages = [...new Set(models.filter((m) => m.generation === undefined || last.get(m.of) === m.stage).map((m) => m.stage))];
  const stageTitle = (stage: string) =>
    results.recipe.stages.find((s) => s.name === stage)?.title ?? (of(stage)[0]?.of === undefined ? stage : of(stage)[0]!.title);
  const trained = stages.filter((stage) => of(stage).length > 0);
  const pruned = stages.filter((stage) => of(stage, 0).length > 0);
  const levelsOf = (stage: string) => table.filter((row) => row.stage === stage && row.level !== undefined);

  const pruning = pruned.flatMap((stage) => {
    let offset = 0;
    return levelsOf(stage).flatMap((row) => {
      const group = of(stage, row.level);
      const marks = curve(group, stageTitle(stage), (p) => percent(1 - p.accuracy), offset);
      offset += group[0]?.curve.at(-1)?.epoch ?? 0;
      return marks;
    });
  });

  const start = (stage: string) => {
    const from = results.recipe.stages.find((s) => s.name === stage);
    return from?.kind === 'prune' ? from.from : undefined;
  };
  const sparsity = pruned.flatMap((stage) => {
    const from = start(stage);
    const before = from ? of(from) : [];
    const isStaged = levelsOf(stage).length > 1;
    const origin = isStaged && before.length > 0 ? [{ sparsity: 0, group: before }] : [];
    return [...origin, ...levelsOf(stage).map((row) => ({ sparsity: row.sparsity, group: of(stage, row.level) }))].map(
      ({ sparsity, group }) => ({
        series: stageTitle(stage),
        sparsity: percent(sparsity),
        ...spread(group.map((m) => percent(m.evaluation.accuracy))),
      }),
    );
  });
  const origins = new Set(pruned.map(start));
  const shown = [
    ...trained.map((stage) => ({ stage, level: undefined as number | undefined })),
    ...pruned.map((stage) => ({ stage, level: levelsOf(stage).at(-1)?.level })),
  ];

  let offset = 0;
  const starts: ChartData['starts'] = [];
  const loss = [...trained, ...pruned]
    .sort((a, b) => stages.indexOf(a) - stages.indexOf(b))
    .flatMap((stage, i) => {
      const levels = pruned.includes(stage) ? levelsOf(stage).map((row) => row.level) : [undefined];
      return levels.flatMap((level, l) => {
        const group = of(stage, level);
        const number = `${i + 1}${levels.length > 1 ? String.fromCharCode(97 + l) : ''}`;
        starts.push({ epoch: offset, number, title: group[0]!.title });
        const marks = curve(group, stageTitle(stage), (p) => p.loss, offset);
        offset += group[0]!.curve.at(-1)?.epoch ?? 0;
        return marks;
      });
    });

  return {
    ...noCharts,
    loss,
    starts,
    generations: generationMarks(results),
    plots: (results.probes ?? []).flatMap(({ series }) =>
      series.map(({ title, x, y, lines }) => ({
        title,
        xLabel: x.label,
        yLabel: y.label,
        isLogarithmic: y.isLogarithmic === true,
        marks: lines.flatMap(({ name, values }) =>
          values.flatMap((value, i) => (Number.isFinite(value) ? [{ series: name, x: x.values[i]!, y: value }] : [])),
        ),
      })),
    ),
    histograms: results.captures.flatMap(({ kept }) => (kept === undefined ? [] : keptHistograms(kept))),
    series: [...new Set([...[...trained, ...pruned].map(stageTitle), ...generationMarks(results).map(({ series }) => series)])],
    error: trained.flatMap((stage) => curve(of(stage), stageTitle(stage), (p) => percent(1 - p.accuracy))),
    nll: trained.flatMap((stage) => curve(of(stage), stageTitle(stage), (p) => p.nll)),
    pruning,
    reliability: shown.map(({ stage, level }) => {
      const group = of(stage, level);
      const bins = group[0]!.evaluation.bins.map((_, b) => {
        const rows = group.reduce((sum, m) => sum + m.evaluation.bins[b]!.count, 0);
        const weighted = (read: (bin: ReliabilityMark) => number) =>
          rows === 0 ? 0 : group.reduce((sum, m) => sum + read(m.evaluation.bins[b]!) * m.evaluation.bins[b]!.count, 0) / rows;
        return { confidence: weighted((bin) => bin.confidence), accuracy: weighted((bin) => bin.accuracy), count: rows };
      });
      const row = table.find((r) => r.stage === stage && r.level === level)!;
      return { title: row.title, ece: row.ece.mean, bins: bins.filter((bin) => bin.count > 0) };
    }),
    sparsity,
    levels: trained
      .filter((stage) => !origins.has(stage))
      .map((stage) => ({ title: stageTitle(stage), mean: percent(meanAndDeviation(of(stage).map((m) => m.evaluation.accuracy)).mean) })),
  };
}

function generationMarks({ models, recipe }: Results): CurveMark[] {
  return recipe.stages.flatMap((stage) => {
    if (stage.kind !== 'recursion') return [];
    const groups = [models.filter((m) => m.stage === stage.from || m.of === stage.from)];
    for (let g = 1; g <= stage.generations; g++) groups.push(models.filter((m) => m.of === stage.name && m.generation === g));
    return groups.flatMap((group, epoch) => {
      const values = group.map((m) => m.evaluation.klToTeacher).filter((value) => value !== undefined);
      return values.length === 0 ? [] : [{ series: stage.title ?? stage.name, epoch, ...spread(values) }];
    });
  });
}
