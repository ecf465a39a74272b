// What a run leaves behind: the types of results.json, its table, and the numbers behind it.
import type { KeptSpreads } from '../cache/summary.js';
import type { DomainEvaluation } from './evaluate.js';
import type { Evaluation } from './metrics.js';
import { meanAndDeviation } from './metrics.js';
import type { ProbeSeries } from './probes/index.js';
import type { Recipe } from './spec.js';
import type { SpreadResult } from './spread.js';
import type { TargetSpec } from './stage_loss/index.js';

/** One point of a learning curve, measured on the test rows. */
export interface CurvePoint {
  /** Passes over the training rows so far, counted from the stage's start. */
  epoch: number;
  /** Steps of the optimiser so far. Absent in runs of earlier versions. */
  step?: number;
  /** Mean training loss since the last point. */
  loss: number;
  accuracy: number;
  nll: number;
  /** What the loss tells of its last batch: TAID's t, the kept share, … */
  numbers?: Record<string, number>;
}

/** One trained model: a stage, a level of a pruning stage, a generation of a recursion or a student of a mutual stage, for one seed. */
export interface ModelResult {
  /** Stage, level and seed in one name. */
  key: string;
  /** The name that other stages know it by. */
  stage: string;
  /** The recipe's stage, where that has another name: the recursion of a generation. */
  of?: string;
  title: string;
  kind: 'train' | 'prune' | 'recursion' | 'mutual';
  /** Level of a pruning stage, from 0. */
  level?: number;
  /** Generation of a recursion, from 1. */
  generation?: number;
  seed: number;
  /** Whether the stage runs once or for each seed. */
  once: boolean;
  target: TargetSpec['kind'];
  /** Of the recipe's models. Absent in runs of earlier versions. */
  model?: string;
  parameters: number;
  nonZero: number;
  /** Share of the weights (biases not counted) that is zero. */
  sparsity: number;
  /** Floating-point operations of a forward pass of one row, and those with weights that are not zero. */
  flops?: number;
  flopsNonZero?: number;
  steps: number;
  seconds: number;
  evaluation: Evaluation;
  /** By domain, in a run of a recipe with `training.domains`. */
  domains?: Record<string, DomainEvaluation>;
  /** Share of test rows on which it chooses the teacher's class; absent without a teacher. */
  agreement?: number;
  /** What the loss told of its last batch. */
  numbers?: Record<string, number>;
  /**
   * Of a stage with acceptIf: whether its student was kept. Where it was not, all above is of the student that stayed, and
   * `candidate` of the one that was trained.
   */
  accepted?: boolean;
  candidate?: Evaluation;
  curve: CurvePoint[];
  /** Relative to the run's folder. */
  checkpoint: string;
}

/** What a probe found. */
export interface ProbeResult {
  stage: string;
  title: string;
  probe: string;
  options: Record<string, unknown>;
  values: Record<string, number>;
  series: ProbeSeries[];
  seconds: number;
}

/** One check with its numbers. */
export interface CheckResult {
  says: string;
  passed: boolean;
  /** The comparison with its numbers: 'klToTeacher of two-step 0.1012 < 0.1204, of one-step'. */
  text: string;
  value: number | null;
  than: number | null;
}

/** How the images of a capture were moved: what replays them. */
export interface Moves {
  shift: number;
  views: number;
  seed: number;
}

/** A file of captured targets. */
export interface CaptureResult {
  stage: string;
  from: string;
  /** Relative to the run's folder. A folder with a target cache, where the data are text. */
  file: string;
  bytes: number;
  /** Of text: bytes of a position. */
  bytesPerRow?: number;
  /** For a stage that runs for each seed. Absent in runs of earlier versions. */
  seed?: number;
  once?: boolean;
  rows: number;
  cols: number;
  /** Where images were moved: by up to so many pixels, in so many versions of each; view v moves row r by what `viewSeed(seed, v)` and r say. */
  moves?: Moves;
  /** Entries of a row. */
  k: number;
  /** How they were drawn; absent where they are the best. */
  sample?: string;
  access?: 'full' | 'topk' | 'text';
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
  /** What the data say of themselves: names and values. */
  facts?: [string, string][];
  /** Time of the whole run, of every sitting where it was resumed. */
  seconds: number;
  models: ModelResult[];
  captures: CaptureResult[];
  /** Absent in runs of earlier versions. */
  probes?: ProbeResult[];
  /** Bias and variance over the seeds. Absent in runs of earlier versions. */
  spreads?: SpreadResult[];
  checks?: CheckResult[];
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
  klToTeacher?: Statistic;
  perplexity?: Statistic;
  brier?: Statistic;
  bitsPerByte?: Statistic;
  flops?: number;
  /** How many of the seeds' students were kept, of a stage with acceptIf. */
  accepted?: number;
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
    const where = (read: (model: ModelResult) => number | undefined) => {
      const values = group.map(read).filter((value) => value !== undefined);
      return values.length === group.length ? meanAndDeviation(values) : undefined;
    };
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
      agreement: where((m) => m.agreement),
      klToTeacher: where((m) => m.evaluation.klToTeacher),
      perplexity: where((m) => m.evaluation.perplexity),
      brier: where((m) => m.evaluation.brier),
      bitsPerByte: where((m) => m.evaluation.bitsPerByte),
      flops: first.flops,
      accepted: first.accepted === undefined ? undefined : group.filter((m) => m.accepted).length,
      seconds: over((m) => m.seconds),
    };
  });
}

interface Column {
  title: string;
  text: (row: TableRow) => string;
}

const optional =
  (read: (row: TableRow) => Statistic | undefined, digits: number, scale = 1) =>
  (row: TableRow) => {
    const value = read(row);
    return value === undefined ? '' : statistic(row, value, digits, scale);
  };

const columns: (Column & { where?: (rows: readonly TableRow[]) => boolean })[] = [
  { title: 'model', text: (row) => row.title },
  { title: 'parameters', text: (row) => count(row.parameters) },
  { title: 'non-zero', text: (row) => count(row.nonZero) },
  {
    title: 'MFLOP',
    text: (row) => (row.flops === undefined ? '' : (row.flops / 1e6).toPrecision(3)),
    where: (rows) => new Set(rows.map((row) => (row.flops ?? 0) / row.parameters)).size > 2,
  },
  { title: 'accuracy %', text: (row) => statistic(row, row.accuracy, 2, 100) },
  { title: 'NLL', text: (row) => statistic(row, row.nll, 4) },
  { title: 'bits/byte', text: optional((row) => row.bitsPerByte, 3), where: (rows) => rows.some((row) => row.bitsPerByte !== undefined) },
  { title: 'ECE %', text: (row) => statistic(row, row.ece, 2, 100) },
  {
    title: 'KL to teacher',
    text: optional((row) => row.klToTeacher, 4),
    where: (rows) => rows.some((row) => row.klToTeacher !== undefined),
  },
  { title: 'agreement %', text: optional((row) => row.agreement, 2, 100) },
  {
    title: 'kept',
    text: (row) => (row.accepted === undefined ? '' : `${row.accepted} of ${row.seeds}`),
    where: (rows) => rows.some((row) => row.accepted !== undefined),
  },
  { title: 'seconds', text: (row) => statistic(row, row.seconds, 1) },
];

/** The columns that a table has something to show in, shared by the terminal and the report. */
export function tableColumns(rows: readonly TableRow[]): Column[] {
  return columns.filter(({ where }) => where === undefined || where(rows));
}

function statistic(row: TableRow, value: Statistic, digits: number, scale = 1): string {
  const mean = (value.mean * scale).toFixed(digits);
  return row.seeds > 1 ? `${mean} ± ${(value.deviation * scale).toFixed(digits)}` : mean;
}

/** 1276810 as '1,276,810'. */
export function count(n: number): string {
  return Math.round(n).toLocaleString('en-US');
}

/** 1234 bytes as '1.23 kB', 25,000,000 as '25 MB': three digits. */
export function size(bytes: number): string {
  const units = ['bytes', 'kB', 'MB', 'GB', 'TB'];
  let amount = bytes;
  let unit = 0;
  for (; amount >= 999.5 && unit < units.length - 1; unit++) amount /= 1000;
  return `${unit === 0 ? amount : Number(amount.toPrecision(3))} ${units[unit] as string}`;
}

/** Checks as text, one line each. */
export function checksText(checks: readonly CheckResult[]): string {
  return checks.map(({ passed, says, text }) => `${passed ? '✓' : '✗'} ${says}: ${text}`).join('\n');
}

/** A probe's values as text, one line each. */
export function valuesText(values: Readonly<Record<string, number>>): string {
  return Object.entries(values)
    .map(([name, value]) => `  ${name} ${Number.isInteger(value) ? value : Number(value.toPrecision(6))}`)
    .join('\n');
}

/** The table as text, numbers aligned to the right. */
export function tableText(rows: readonly TableRow[]): string {
  const shown = tableColumns(rows);
  const cells = [shown.map((c) => c.title), ...rows.map((row) => shown.map((c) => c.text(row)))];
  const widths = shown.map((_, c) => Math.max(...cells.map((line) => line[c]!.length)));
  const lines = cells.map((line) =>
    line
      .map((cell, c) => (c === 0 ? cell.padEnd(widths[c]!) : cell.padStart(widths[c]!)))
      .join('  ')
      .trimEnd(),
  );
  lines.splice(1, 0, widths.map((w) => '─'.repeat(w)).join('  '));
  return lines.join('\n');
}
