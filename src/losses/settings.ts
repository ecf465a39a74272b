// The options every loss shares, checked and turned into the kernel's codes.
import { checkBoolean, checkFraction, checkOneOf, checkOptions, checkPositive, checkWhole } from '../check.js';
import { kindError, notAvailable, phrase, valueError } from '../errors.js';
import { findCode } from '../native.js';
import { divergenceEntry, divergenceNames, type Divergence, type DivergenceName } from './divergences.js';

/** How the rows' losses become one. */
export type Reduction = 'mean' | 'sum' | 'none';

/** What 'mean' divides by: rows that are not ignored, the sum of their weights, or a number. */
export type Denominator = 'rows' | 'weights' | number;

/** How the mass outside a sparse target's entries is treated. The letters are those of the documentation. */
export type Residual = 'renormalize' | 'renormalize_both' | 'truncate' | 'tail_bucket' | 'uniform' | 'label' | 'sampled';

export const residualNames: readonly Residual[] = [
  'renormalize',
  'renormalize_both',
  'truncate',
  'tail_bucket',
  'uniform',
  'label',
  'sampled',
];

/** Options that do not depend on how tensors are given. */
export interface RowLossOptions {
  /** ε of the smoothed label (1 − ε)·e_y + ε/V, in [0, 1]. Default 0. */
  labelSmoothing?: number;
  /** Rows with this label are dropped: exactly 0, inputs unread. Default −100. */
  ignoreIndex?: number;
  /** Rows with this label keep the teacher's term and lose the label's. None by default. */
  unlabelledIndex?: number;
  /** Default 'mean'. */
  reduction?: Reduction;
  /** Default 'rows'; only 'mean' divides. */
  denominator?: Denominator;
}

export const rowLossNames = ['labelSmoothing', 'ignoreIndex', 'unlabelledIndex', 'reduction', 'denominator'] as const;

export interface RowLossSettings {
  labelSmoothing: number;
  ignoreIndex: number;
  unlabelledIndex: number;
  reduction: Reduction;
  denominator: number;
  denominatorValue: number;
}

const leastInt32 = -2147483648;
const mostInt32 = 2147483647;

export function rowLossSettings(action: string, options: RowLossOptions): RowLossSettings {
  const { labelSmoothing = 0, ignoreIndex = -100, unlabelledIndex, reduction = 'mean', denominator = 'rows' } = options;
  checkFraction(action, 'labelSmoothing', labelSmoothing);
  checkWhole(action, 'ignoreIndex', ignoreIndex, leastInt32, mostInt32);
  if (unlabelledIndex !== undefined) checkWhole(action, 'unlabelledIndex', unlabelledIndex, leastInt32, mostInt32);
  checkOneOf(action, 'reduction', reduction, ['mean', 'sum', 'none']);
  const byNumber = typeof denominator === 'number';
  if (byNumber) checkPositive(action, 'denominator', denominator);
  else checkOneOf(action, 'denominator', denominator, ['rows', 'weights']);
  return {
    labelSmoothing,
    ignoreIndex,
    // The smallest int32 stands for none.
    unlabelledIndex: unlabelledIndex ?? leastInt32,
    reduction,
    denominator: findCode('denominator', byNumber ? 'number' : denominator),
    denominatorValue: byNumber ? denominator : 1,
  };
}

/** The mixture of teacher and student that {@link SoftOptions.assistant} puts in the student's place. */
export interface Assistant {
  alpha: number;
  lambda: number;
}

/** Options of the teacher's term. */
export interface SoftOptions {
  /** Default 'forward_kl'. */
  divergence?: Divergence;
  /**
   * AMiD's assistant r ∝ (λ·p^ρ + (1 − λ)·q^ρ)^{1/ρ}, ρ = (1 − α)/2, in the student's place: D(p, r), with the gradient that flows
   * through the student's part (arXiv 2510.15982). α any finite number (−1: arithmetic, 1: geometric, p^λ·q^{1−λ}), λ in [0, 1]; λ = 0 is
   * D(p, q) itself.
   */
  assistant?: Assistant;
  /** Multiplies the teacher's term by T², so that its gradient does not shrink with the temperature. Default true. */
  temperatureSquared?: boolean;
  /** Required for sparse targets, where nothing is a safe default; not allowed for dense ones. */
  residual?: Residual;
  /** h in (1 − h)·s·D + h·CE, in [0, 1]. Default 0. */
  hardWeight?: number;
}

export const softNames = ['divergence', 'assistant', 'temperatureSquared', 'residual', 'hardWeight'] as const;

/** What the target is, as far as the rules of divergences and residuals go. */
export type TargetKind = 'dense' | 'sparse_log_probs' | 'sparse_weights';

export interface SoftSettings {
  divergence: DivergenceName;
  divergenceCode: number;
  parameterA: number;
  parameterB: number;
  assistant: Assistant | null;
  /** Given probabilities count with the mass they have. */
  anyMass: boolean;
  residual: Residual | 'none';
  residualCode: number;
  temperatureSquared: number;
  hardWeight: number;
}

export function softSettings(action: string, options: SoftOptions, target: TargetKind): SoftSettings {
  const { divergence: given = 'forward_kl', assistant, temperatureSquared = true, hardWeight = 0 } = options;
  checkBoolean(action, 'temperatureSquared', temperatureSquared);
  checkFraction(action, 'hardWeight', hardWeight);
  const { name, parameters } = divergenceOf(action, given);
  const residual = residualOf(action, options.residual, target, name);
  if (assistant !== undefined) checkAssistant(action, assistant, residual);
  // Of weights only the cross-entropy is known without bias: forward KL reports it too.
  const divergenceCode = findCode('divergence', residual === 'sampled' ? 'soft_cross_entropy' : name);
  if (divergenceCode < 0) throw notAvailable(action, `divergence '${name}'`);
  return {
    divergence: name,
    divergenceCode,
    parameterA: parameters[0] ?? 0,
    parameterB: parameters[1] ?? 0,
    assistant: assistant ?? null,
    anyMass: assistant === undefined && divergenceEntry(name).anyMass === true,
    residual,
    residualCode: findCode('residual', residual),
    temperatureSquared: temperatureSquared ? 1 : 0,
    hardWeight,
  };
}

function checkAssistant(action: string, assistant: Assistant, residual: Residual | 'none'): void {
  if (assistant === null || typeof assistant !== 'object') throw kindError(action, 'assistant must be { alpha, lambda }', assistant);
  const { alpha, lambda } = checkOptions(action, assistant, ['alpha', 'lambda']);
  if (typeof alpha !== 'number') throw kindError(action, 'assistant.alpha must be a number', alpha);
  if (!Number.isFinite(alpha)) throw valueError(action, 'assistant.alpha must be finite', alpha);
  checkFraction(action, 'assistant.lambda', lambda);
  // The mixture needs the teacher's probability of every outcome.
  if (residual === 'truncate' || residual === 'sampled')
    throw kindError(action, `assistant must not be given with residual '${residual}', which says nothing of the other columns`, assistant);
}

const noParameters: readonly number[] = [];

function divergenceOf(action: string, given: unknown): { name: DivergenceName; parameters: readonly number[] } {
  if (typeof given === 'string') {
    const name = checkOneOf(action, 'divergence', given, divergenceNames);
    const { parameters } = divergenceEntry(name);
    return { name, parameters: Object.values(parameters) };
  }
  if (given === null || typeof given !== 'object') throw kindError(action, 'divergence must be a name or { kind, ... }', given);
  const own = given as { kind?: unknown } & Record<string, unknown>;
  const name = checkOneOf(action, 'divergence.kind', own.kind, divergenceNames);
  const defaults = divergenceEntry(name).parameters;
  checkOptions(action, own, ['kind', ...Object.keys(defaults)]);
  const parameters = Object.entries(defaults).map(([key, value]) =>
    checkFraction(action, `divergence.${key}`, own[key] === undefined ? value : own[key]),
  );
  return { name, parameters: parameters.length === 0 ? noParameters : parameters };
}

function residualOf(action: string, residual: unknown, target: TargetKind, divergence: DivergenceName): Residual | 'none' {
  if (target === 'dense') {
    if (residual !== undefined) throw kindError(action, 'residual must not be given with a dense target', residual);
    return 'none';
  }
  if (target === 'sparse_weights') {
    if (residual !== undefined && checkOneOf(action, 'residual', residual, residualNames) !== 'sampled') {
      throw kindError(action, "residual must be 'sampled' for a target of weights, or left out", residual);
    }
  } else {
    if (residual === undefined) {
      throw kindError(
        action,
        "residual must be given with a sparse target ('tail_bucket' keeps the mass outside its entries)",
        phrase('it is missing'),
      );
    }
    if (checkOneOf(action, 'residual', residual, residualNames) === 'sampled') {
      throw kindError(action, "residual must not be 'sampled' for a target of probabilities", residual);
    }
  }
  const rule: Residual = target === 'sparse_weights' ? 'sampled' : (residual as Residual);
  const entry = divergenceEntry(divergence);
  if ((rule === 'truncate' || rule === 'sampled') && !entry.anyMass) {
    throw valueError(action, `divergence must be 'forward_kl' or 'soft_cross_entropy' with residual '${rule}'`, divergence);
  }
  if (rule === 'renormalize' && entry.infiniteOffTarget) {
    throw valueError(action, "divergence must be finite where the teacher is 0 with residual 'renormalize'", divergence);
  }
  return rule;
}

/** @throws TypeError where the hard term or the residual needs a label in every row and there is none */
export function checkLabelled(
  action: string,
  { hardWeight, residual }: Pick<SoftSettings, 'hardWeight' | 'residual'>,
  { labels, unlabelledIndex }: { labels?: unknown; unlabelledIndex?: number },
): void {
  const toLabel = residual === 'label' && hardWeight < 1;
  if (labels === undefined && (hardWeight > 0 || toLabel))
    throw kindError(action, `labels must be given with ${toLabel ? "residual 'label'" : `hardWeight ${hardWeight}`}`, labels);
  if (toLabel && unlabelledIndex !== undefined)
    throw kindError(action, "unlabelledIndex must not be given with residual 'label', which needs the label of every row", unlabelledIndex);
}

/** The settings of a loss that has no teacher. */
export function hardOnly(): Pick<
  SoftSettings,
  'divergenceCode' | 'parameterA' | 'parameterB' | 'assistant' | 'residualCode' | 'temperatureSquared' | 'hardWeight'
> {
  const divergenceCode = findCode('divergence', 'forward_kl');
  return {
    divergenceCode,
    parameterA: 0,
    parameterB: 0,
    assistant: null,
    residualCode: findCode('residual', 'none'),
    temperatureSquared: 0,
    hardWeight: 1,
  };
}

/** Whether the residual renormalises the k probabilities: then p^(Tc/T) carries them exactly to another temperature. */
export function isRenormalizing(residual: Residual | 'none'): boolean {
  return residual === 'renormalize' || residual === 'renormalize_both';
}
