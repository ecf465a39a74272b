// The `target` of a stage as data: its types. The schema with its defaults is definitions.target in recipes/recipe.schema.json.
import type { Assistant, Divergence, Residual, ScoreWeights } from '../../losses/index.js';
import type { SofteningOperatorName } from '../../ops/index.js';
import type { SampleMethod } from '../../targets/index.js';

/** What a stage learns from. */
export type TargetSpec = LabelsTarget | CapturedTarget | TeacherTarget | FeaturesTarget | SumTarget | HeadsTarget | CustomTarget;

/** A number that may move over the steps of a stage: from `start` to `end`, reached at the share `until` of the steps. */
export type Scheduled = number | { kind: 'linear' | 'cosine' | 'exponential'; start: number; end: number; until?: number };

/** The labels of the data. */
export interface LabelsTarget {
  kind: 'labels';
  labelSmoothing: number;
}

/** What a capture stage left in a file. */
export interface CapturedTarget {
  kind: 'captured';
  from: string;
  divergence: Divergence;
  /** For targets of probabilities; those of weights are 'sampled' by themselves. */
  residual?: Residual;
  hardWeight: Scheduled;
  labelSmoothing: number;
  /** Default: what the target was captured at. */
  temperature?: Scheduled;
  /** Default: the loss's own. */
  temperatureSquared?: boolean;
  assistant?: Assistant;
}

/** One of several teachers. */
export interface WeightedTeacher {
  name: string;
  /** Relative to the others; default 1. */
  weight?: number;
}

/** How much each teacher counts. */
export type MixWeights =
  | 'fixed'
  /** In each row, w_m · e^(−H(p_m)): a teacher that is sure weighs more. */
  | 'entropy'
  /** In each batch, w_m · e^(−CE_m) with the batch's mean cross-entropy of teacher and labels. */
  | 'batch'
  /** softmax(θ), θ learned with the student by the cross-entropy of the mixture and the labels. */
  | 'learned';

export interface AdaKdRule {
  rule: 'adakd';
  /** T₀. */
  base?: number;
  /** c: temperatures stay in [T₀·e^−c, T₀·e^c]. */
  strength?: number;
}

export type Selection =
  /** Rows that are further from the target than a reference student is (AdaSPEC). */
  | { rule: 'adaspec'; reference: string; keep: number; denominator?: 'rows' | 'weights' }
  /** Weight 1 where the student's best is among the teacher's k, else `otherwise` (SelecTKD). */
  | { rule: 'speckd'; k?: number; otherwise?: number; denominator?: 'rows' | 'weights' }
  /** Rows of highest entropy, the student's or the teacher's. */
  | { rule: 'entropy'; of?: 'student' | 'teacher'; keep: number; denominator?: 'rows' | 'weights' }
  /** Rows of largest Hellinger distance; the share follows the loss (AdaKD). */
  | { rule: 'adakd'; keep?: number; least?: number; denominator?: 'rows' | 'weights' };

/** How student and target are compared; 'divergence' is `divergence`. */
export type LossSpec =
  | LossName
  | { kind: 'pld' | 'listmle' | 'divergence' }
  | { kind: 'bild' | 'dbild'; k?: number; lead?: 'teacher' | 'student' | 'both'; direction?: 'forward' | 'reverse' }
  | { kind: 'concrete_score'; weights?: [ScoreWeights, ScoreWeights] }
  | { kind: 'logit_mse'; centred?: boolean }
  | { kind: 'dist'; beta?: number; gamma?: number }
  | { kind: 'dkd'; alpha?: number; beta?: number }
  | { kind: 'ofa'; gamma?: number }
  | { kind: 'standardized'; epsilon?: number };

export type LossName =
  'divergence' | 'pld' | 'listmle' | 'bild' | 'dbild' | 'concrete_score' | 'logit_mse' | 'dist' | 'dkd' | 'ofa' | 'standardized';

/** Earlier stages that are run on each batch. */
export interface TeacherTarget {
  kind: 'teacher';
  /** A stage, several with weights, 'peers' (mutual learning), or 'self' (the student's own last head). */
  from: string | WeightedTeacher[];
  /** What of the teacher may be seen. */
  access: 'full' | 'probs' | 'topk' | 'sampled' | 'text';
  /** For 'topk'. */
  k?: number;
  residual?: Residual;
  /** For 'sampled'. */
  draws?: number;
  method?: SampleMethod;
  /** For 'text': the teacher's best class, or one drawn; rows it is less sure of than `critic` are left out. */
  text?: { draw?: 'best' | 'sample'; critic?: number };
  loss: LossSpec;
  divergence: Divergence;
  assistant?: Assistant;
  /** Default: the loss's own (1 for divergences). */
  temperature?: Scheduled | AdaKdRule;
  /** Default: the loss's own. */
  temperatureSquared?: boolean;
  hardWeight: Scheduled;
  labelSmoothing: number;
  mix: 'arithmetic' | 'geometric';
  mixWeights: MixWeights;
  /** λ·p_anchor + (1 − λ)·p: what keeps recursion in place. */
  anchor?: { from: string; lambda: number };
  /** An operator on the teacher's probabilities, or on both sides'. */
  soften?: { operator: SofteningOperatorName; temperature: number; sides?: 'teacher' | 'both' };
  labelCorrection?: 'swap' | 'sort';
  /** α of α·label + (1 − α)·teacher. */
  groundTruth?: Scheduled;
  taid?: { tStart?: number; tEnd?: number; alpha?: number; beta?: number; adaptive?: boolean };
  select?: Selection;
}

/** One pair of inner values. */
export interface FeaturePair {
  /** Numbers of the features, −1 the last. */
  student: number;
  teacher: number;
  loss: 'mse' | 'cosine' | 'huber' | 'gram' | 'relation' | 'cka' | 'attention_relation' | 'contrastive';
  weight?: number;
  /** Default: where the loss needs equal widths and they differ. */
  projector?: boolean;
}

/** Inner values of the student against those of an earlier stage. */
export interface FeaturesTarget {
  kind: 'features';
  from: string;
  pairs: FeaturePair[];
}

/** Several targets at once. */
export interface SumTarget {
  kind: 'sum';
  /** 'ratio': the first part's loss over this one's, held fixed, so that both count alike (Minitron). */
  parts: { weight: Scheduled | 'ratio'; target: TargetSpec }[];
}

/** Heads of a student with several, each with its own weight and target. */
export interface HeadsTarget {
  kind: 'heads';
  /** 'final', or the number of an exit. */
  heads: { head: 'final' | number; weight?: number; target: TargetSpec }[];
}

/** A loss or a target builder written in TypeScript. */
export interface CustomTarget {
  kind: 'custom';
  loss?: string;
  target?: string;
  options: Record<string, unknown>;
  divergence: Divergence;
  residual?: Residual;
  temperature?: number;
  hardWeight: number;
}
