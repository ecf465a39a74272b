// What a run leaves behind: the types of results.json, its table, and the numbers behind it.
import type { KeptSpreads } from '../cache/summary.js';
import type { Evaluation } from './metrics.js';
import { meanAndDeviation } from './metrics.js';
import type { Recipe, TargetSpec } from './recipe.js';

/** One point of a learning curve, measured on the test rows. */
export interface CurvePoint {
  /** Passes over the training rows so far, counted from the stage's start. */
  epoch: number;
  /** Mean training loss since the last point. */
  loss: number;
  accuracy: number;
  nll: number;
}

/** One trained model: a stage, or a level of a pruning stage, for one seed. */
export interface ModelResult {
  /** Stage, level and seed in one name. */
  key: string;
  stage: string;
  title: string;
  kind: 'train' | 'prune';
  /** Level of a pruning stage, from 0. */
  level?: number;
  seed: number;
  /** Whether the stage runs once or for each seed. */
  once: boolean;
  target: TargetSpec['kind'];
  parameters: number;
  nonZero: number;
  /** Share of the weights (biases not counted) that is zero. */
  sparsity: number;
  steps: number;
  seconds: number;
  evaluation: Evaluation;
  /** Share of test rows on which it chooses the teacher's class; absent without a teacher. */
  agreement?: number;
  curve: CurvePoint[];
  /** Relative to the run's folder. */
  checkpoint: string;
}

/** A file of captured targets. */
export interface CaptureResult {
  stage: string;
  from: string;
  /** Relative to the run's folder. */
  file: string;
  bytes: number;
  rows: number;
  cols: number;
  k: number;
  temperature: number;
  /** Mean probability that the file holds as tail mass only. */
  meanTail: number;
  /** Kept mass, entropy and entries of the rows; absent in runs of earlier versions. */
  kept?: KeptSpreads;
  seconds: number;
}

/** A digit that models see differently. */
export interface GalleryItem {
  row: number;
  label: number;
  /** Pixels as bytes in base64, rows of `width`. */
  pixels: string;
  width: number;
  height: number;
  views: { title: string; predicted: number; probability: number }[];
}

export interface GalleryGroup {
  title: string;
  /** How many test rows there are in all. */
  count: number;
  items: GalleryItem[];
}

export interface Machine {
  limbeck: string;
  node: string;
  platform: string;
  device: string;
  deviceReason: string;
  deviceName: string;
  instructionSet: string;
  threads: number;
  matrixProduct: string;
}

export interface Results {
  format: 1;
  recipe: Recipe;
  machine: Machine;
  trainRows: number;
  testRows: number;
  /** Time of the whole run, of every sitting where it was resumed. */
  seconds: number;
  models: ModelResult[];
  captures: CaptureResult[];
  table: TableRow[];
  findings: string[];
  gallery: GalleryGroup[];
}

export interface Statistic {
  mean: number;
  /** Sample standard deviation over the seeds; 0 for one. */
  deviation: number;
}

/** One line of the table: a stage, or a level of a pruning stage, over its seeds. */
export interface TableRow {
  title: string;
  stage: string;
  level?: number;
  seeds: number;
  parameters: number;
  nonZero: number;
  sparsity: number;
  accuracy: Statistic;
  nll: Statistic;
  ece: Statistic;
  agreement?: Statistic;
  seconds: Statistic;
}

/** The table's lines, in the order of the recipe's stages. */
export function summarize(models: readonly ModelResult[]): TableRow[] {
  const groups = new Map<string, ModelResult[]>();
  for (const model of models) {
    const name = `${model.stage}/${model.level ?? ''}`;
    groups.set(name, [...(groups.get(name) ?? []), model]);
  }
  return [...groups.values()].map((group) => {
    const first = group[0]!;
    const over = (read: (model: ModelResult) => number) => meanAndDeviation(group.map(read));
    return {
      title: first.title,
      stage: first.stage,
      level: first.level,
      seeds: group.length,
      parameters: first.parameters,
      nonZero: first.nonZero,
      sparsity: first.sparsity,
      accuracy: over((m) => m.evaluation.accuracy),
      nll: over((m) => m.evaluation.nll),
      ece: over((m) => m.evaluation.ece),
      agreement: first.agreement === undefined ? undefined : over((m) => m.agreement!),
      seconds: over((m) => m.seconds),
    };
  });
}

/** The columns of the table, shared by the terminal and the report. */
export const tableColumns: { title: string; text: (row: TableRow) => string }[] = [
  { title: 'model', text: (row) => row.title },
  { title: 'parameters', text: (row) => count(row.parameters) },
  { title: 'non-zero', text: (row) => count(row.nonZero) },
  { title: 'accuracy %', text: (row) => statistic(row, row.accuracy, 2, 100) },
  { title: 'NLL', text: (row) => statistic(row, row.nll, 4) },
  { title: 'ECE %', text: (row) => statistic(row, row.ece, 2, 100) },
  { title: 'agreement %', text: (row) => (row.agreement === undefined ? '' : statistic(row, row.agreement, 2, 100)) },
  { title: 'seconds', text: (row) => statistic(row, row.seconds, 1) },
];

function statistic(row: TableRow, value: Statistic, digits: number, scale = 1): string {
  const mean = (value.mean * scale).toFixed(digits);
  return row.seeds > 1 ? `${mean} ± ${(value.deviation * scale).toFixed(digits)}` : mean;
}

/** 1276810 as '1,276,810'. */
export function count(n: number): string {
  return Math.round(n).toLocaleString('en-US');
}

/** The table as text, numbers aligned to the right. */
export function tableText(rows: readonly TableRow[]): string {
  const cells = [tableColumns.map((c) => c.title), ...rows.map((row) => tableColumns.map((c) => c.text(row)))];
  const widths = tableColumns.map((_, c) => Math.max(...cells.map((line) => line[c]!.length)));
  const lines = cells.map((line) =>
    line
      .map((cell, c) => (c === 0 ? cell.padEnd(widths[c]!) : cell.padStart(widths[c]!)))
      .join('  ')
      .trimEnd(),
  );
  lines.splice(1, 0, widths.map((w) => '─'.repeat(w)).join('  '));
  return lines.join('\n');
}
