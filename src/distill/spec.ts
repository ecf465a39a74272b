// The types of a recipe, as checkRecipe gives it: every default filled in.
import type { TextSpec } from './data_text.js';
import type { ScheduleKind } from '../optim/index.js';
import type { TargetSpec } from './stage_loss/index.js';

export type { TargetSpec };

/** Which of a recipe's two sizes. */
export type RecipeSize = 'full' | 'quick';

export interface Recipe {
  name: string;
  title?: string;
  description?: string;
  paper?: { title: string; id?: string };
  shows?: string;
  size: RecipeSize;
  seed: number;
  repeats: number;
  /** The stage that klToTeacher and agreement are measured against. */
  teacher?: string;
  data: DataSpec;
  models: Record<string, ModelSpec>;
  stages: StageSpec[];
  checks?: CheckSpec[];
  quick?: QuickSpec;
}

export interface ImageDataSpec {
  format: 'mnist';
  directory?: string;
  trainRows?: number;
  testRows?: number;
}

export interface CustomDataSpec {
  format: 'custom';
  name: string;
  options?: Record<string, unknown>;
}

export type DataSpec = ImageDataSpec | TextSpec | CustomDataSpec | { format: 'none' };

interface Heads {
  exits?: number[];
  dualHead?: boolean;
}

export interface MlpSpec extends Heads {
  kind: 'mlp';
  hidden: number[];
  inputDropout: number;
  dropout: number;
}

export interface CnnSpec extends Heads {
  kind: 'cnn';
  channels: number[];
  hidden: number[];
  dropout: number;
}

export interface GptSpec extends Heads {
  kind: 'gpt';
  layers: number;
  heads: number;
  width: number;
  mlpWidth?: number;
  dropout: number;
}

export interface CustomModelSpec {
  kind: 'custom';
  name: string;
  options?: Record<string, unknown>;
}

export type ModelSpec = MlpSpec | CnnSpec | GptSpec | CustomModelSpec;

export type OptimizerSpec =
  | { kind: 'sgd'; learningRate: number; momentum: number; nesterov: boolean; weightDecay: number }
  | { kind: 'adamw'; learningRate: number; beta1: number; beta2: number; epsilon: number; weightDecay: number }
  | { kind: 'lion'; learningRate: number; beta1: number; beta2: number; weightDecay: number };

export interface ScheduleSpec {
  kind: ScheduleKind;
  warmup: number;
  floor: number;
}

/** Rows are drawn by domain, more of those in which the student lags behind a teacher (DDK, arXiv 2407.16154). */
export interface DomainsSpec {
  /** Steps between two measurements; the first is after as many. */
  every: number;
  /** α of r ← α · ψ / Σψ + (1 − α)/N. */
  alpha: number;
  /** Training rows of each domain that are set aside, and measured on. */
  rows: number;
  /** To begin with, by domain; default: the shares of the rows. */
  weights?: Record<string, number>;
  /** The stage that the student is compared with; default: the recipe's teacher. */
  teacher?: string;
}

export interface TrainingSpec {
  /** Either epochs or steps. */
  epochs?: number;
  steps?: number;
  batchSize: number;
  /** Batches whose gradients make one step. */
  accumulate: number;
  optimizer: OptimizerSpec;
  schedule?: ScheduleSpec;
  clipNorm?: number;
  ema?: { decay: number; warmup: boolean };
  /** Points of the curve of a training by steps. */
  points: number;
  /** Largest random move of each image, in pixels. */
  shift: number;
  domains?: DomainsSpec;
}

export type Relation = '<' | '<=' | '>' | '>=';

/** A stage's student is kept only where `metric` is in this relation to `than · times + plus`. */
export interface AcceptSpec {
  metric: string;
  is: Relation;
  than: number | 'before' | { stage: string; metric?: string; level?: number };
  times: number;
  plus: number;
}

interface Named {
  name: string;
  title?: string;
}

export interface TrainStage extends Named {
  kind: 'train';
  once: boolean;
  /** Either model (afresh) or from (an earlier stage's student goes on). */
  model?: string;
  from?: string;
  target: TargetSpec;
  training: TrainingSpec;
  acceptIf?: AcceptSpec;
}

export interface CaptureStage extends Named {
  kind: 'capture';
  once?: boolean;
  from: string;
  k?: number;
  sample?: { draws: number; method: 'with_replacement' | 'race' | 'head_tail' };
  access: 'full' | 'topk' | 'text';
  temperature: number;
  /** Largest random move of each image, in pixels; students see the very images that the teacher saw. */
  shift: number;
  /** Moved versions of each image; a student's passes take them in turn. */
  views: number;
}

/** What is removed and by which measure. */
export interface PruningSpec {
  method: 'magnitude' | 'activation' | 'gradient';
  structure: 'unstructured' | 'units' | 'heads' | 'layers' | 'channels' | 'width' | { n: number; m: number };
  calibrationRows: number;
}

export type SparsitySpec = number[] | { from?: number; to: number; levels: number; curve?: 'linear' | 'cubic' | 'geometric' };

export interface PruneStage extends Named, PruningSpec {
  kind: 'prune';
  once?: boolean;
  from: string;
  /** Absent for n of m. */
  sparsity?: SparsitySpec;
  target: TargetSpec;
  training: TrainingSpec;
  acceptIf?: AcceptSpec;
}

export interface RecursionStage extends Named, PruningSpec {
  kind: 'recursion';
  once?: boolean;
  from: string;
  generations: number;
  model?: string;
  anchor?: number;
  sparsity?: number;
  target: TargetSpec;
  training: TrainingSpec;
  acceptIf?: AcceptSpec;
}

export interface MutualStage extends Named {
  kind: 'mutual';
  once: boolean;
  models: string[];
  target: TargetSpec;
  training: TrainingSpec;
}

export interface ProbeStage extends Named {
  kind: 'probe';
  probe: string;
  options: Record<string, unknown>;
}

export type StageSpec = TrainStage | CaptureStage | PruneStage | RecursionStage | MutualStage | ProbeStage;

/** Stages that train. */
export type TrainingStage = TrainStage | PruneStage | RecursionStage | MutualStage;

export interface OtherValue {
  stage?: string;
  metric?: string;
  level?: number;
}

export type StatisticName = 'mean' | 'max' | 'min' | 'median' | 'deviation' | 'error' | 'sum';

/** A number of the run: of a stage, over its seeds; or a difference or ratio of two. */
export type ValueSpec =
  number | { stage: string; metric: string; level?: number; minus?: OtherValue; dividedBy?: OtherValue; statistic?: StatisticName };

/** What must hold at the end of a run: value `is` than · times + plus. */
export interface CheckSpec {
  says: string;
  value: ValueSpec;
  is: Relation | 'within';
  than: ValueSpec;
  times: number;
  plus: number;
  everySeed: boolean;
  sizes: RecipeSize[];
}

export interface QuickSpec {
  repeats?: number;
  epochs?: number;
  steps?: number;
  trainRows?: number;
  testRows?: number;
  data?: Record<string, unknown>;
  models?: Record<string, ModelSpec>;
  stages?: Record<string, Record<string, unknown>>;
}

/** What is gone after each level of a pruning stage. */
export function stageLevels({ structure, sparsity }: Pick<PruneStage, 'structure' | 'sparsity'>): number[] {
  return typeof structure === 'object' ? [1 - structure.n / structure.m] : sparsityLevels(sparsity!);
}

/** A schedule spelt out. */
function sparsityLevels(spec: SparsitySpec): number[] {
  if (Array.isArray(spec)) return spec;
  const { from = 0, to, levels, curve = 'cubic' } = spec;
  return Array.from({ length: levels }, (_, i) => {
    const t = (i + 1) / levels;
    if (t === 1) return to;
    if (curve === 'linear') return from + (to - from) * t;
    if (curve === 'cubic') return to + (from - to) * (1 - t) ** 3;
    return 1 - (1 - from) * ((1 - to) / (1 - from)) ** t;
  });
}
