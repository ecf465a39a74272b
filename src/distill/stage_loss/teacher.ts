// Learning from earlier stages that are run on each batch: targets of all kinds, and every way to compare with them.
import { noGrad } from '../../autograd.js';
import {
  adaptiveTemperatures,
  bildLoss,
  concreteScoreLoss,
  crossEntropy,
  dbildLoss,
  distLoss,
  dkdLoss,
  kdLoss,
  listMleLoss,
  logitMseLoss,
  plackettLuceLoss,
  referenceGap,
  rowHellinger,
  standardizedKdLoss,
  type KdLossOptions,
} from '../../losses/index.js';
import { add, argmax, gather, log, scale, soften, softmax } from '../../ops/index.js';
import type { StoredTensor } from '../../safetensors.js';
import {
  captureTopK,
  correctTarget,
  denseTarget,
  DenseTarget,
  interpolateTarget,
  mixTargets,
  mixWithLabels,
  ofaTarget,
  sampleTarget,
  SparseTarget,
  TaidScheduler,
  type OfaOptions,
  type TaidState,
} from '../../targets/index.js';
import { hostCopy, tensor, Tensor } from '../../tensor.js';
import { phrase, valueError } from '../../errors.js';
import { lossName } from './check.js';
import { Mixture, type Voice } from './mixture.js';
import { RowSelection, type RowChoice } from './rows.js';
import { scheduledValue } from './schedule.js';
import { softenedLogits } from './softened.js';
import type { TeacherTarget } from './spec.js';
import type { StageBatch, StageLoss, StageLossEnvironment, StudentOutput } from './types.js';

/** Temperatures of the losses where the recipe gives none: the library's own. */
const usualTemperature: Partial<Record<string, number>> = { bild: 3, dbild: 3, dkd: 4, standardized: 2 };

/** The batch's target, and what else was found on the way. */
interface Said {
  target: Tensor | DenseTarget | SparseTarget;
  /** Added to the loss: the gradient of learned weights, of value 0. */
  extra: Tensor | null;
}

/** {@link StageLoss} of a target of kind 'teacher'. */
export class TeacherLoss implements StageLoss {
  private readonly mixture: Mixture | null;
  private readonly selection: RowSelection;
  private readonly device: StageLossEnvironment['device'];
  private taid: TaidScheduler | null = null;
  private taidState: TaidState | null = null;
  /** The step whose loss the schedulers have seen. */
  private lastStep = -1;
  private found: Record<string, number> = {};

  constructor(
    { device }: StageLossEnvironment,
    private readonly spec: TeacherTarget,
  ) {
    this.device = device;
    const { from, mixWeights, mix } = spec;
    const weights = typeof from === 'string' ? null : from.map(({ weight = 1 }) => weight);
    const isMixed = from === 'peers' || (weights !== null && weights.length > 1);
    this.mixture = isMixed ? new Mixture(mixWeights, mix, weights ?? [], device) : null;
    this.selection = new RowSelection(spec.select);
  }

  of(student: StudentOutput, batch: StageBatch): Tensor {
    this.found = {};
    const { spec } = this;
    const { logits } = student;
    const hardWeight = scheduledValue(spec.hardWeight, batch.step, batch.steps);
    if (typeof spec.hardWeight !== 'number') this.found['hardWeight'] = hardWeight;
    const isFirst = batch.step !== this.lastStep;
    this.lastStep = batch.step;
    if (spec.access === 'text') return this.fromText(logits, batch, hardWeight);
    const voices = this.voices(batch);
    const temperature = this.temperature(logits, voices, batch);
    const { target, extra } = this.target(voices, batch, temperature);
    // Where the teacher is not wholly seen, rules look at what stands behind the target.
    const seen = target instanceof SparseTarget ? voices[0]!.logits : logitsOf(target);
    const choice = this.selection.choose({
      student: logits,
      teacher: seen,
      labels: batch.labels,
      gap: (reference) =>
        referenceGap(logits.detach(), batch.teacher(reference).logits, target, {
          ...this.divergence(temperature),
          labels: batch.labels,
        }),
    });
    const loss = this.compared(logits, target, temperature, batch, choice, hardWeight, isFirst);
    if (isFirst && spec.select?.rule === 'adakd') this.selection.update(loss);
    Object.assign(this.found, this.mixture?.numbers(), this.selection.numbers());
    return extra === null ? loss : add(loss, extra);
  }

  private voices(batch: StageBatch): Voice[] {
    const { from, access } = this.spec;
    const voice = (name: string, weight: number, output: StudentOutput): Voice => ({
      name,
      weight,
      logits: output.logits,
      target: access === 'probs' ? denseTarget({ probs: noGrad(() => softmax(output.logits)) }) : output.logits,
    });
    if (from === 'peers') return (batch.peers ?? []).map((name) => voice(name, 1, batch.student!(name)));
    if (typeof from === 'string') return [voice(from, 1, batch.teacher(from))];
    return from.map(({ name, weight = 1 }) => voice(name, weight, batch.teacher(name)));
  }

  private temperature(student: Tensor, voices: readonly Voice[], { step, steps }: StageBatch): number | Tensor {
    const { temperature: given, loss } = this.spec;
    if (given === undefined) return usualTemperature[lossName(loss)] ?? 1;
    if (typeof given === 'object' && 'rule' in given) {
      // The difficulty of a row is its distance from the first teacher at temperature 1.
      const scores = rowHellinger(student.detach(), voices[0]!.logits);
      const { base, strength } = given;
      const rows = adaptiveTemperatures(scores, {
        ...(base === undefined ? {} : { base }),
        ...(strength === undefined ? {} : { strength }),
      });
      const values = Array.from(hostCopy(rows, 'read temperatures') as ArrayLike<number>);
      this.found['temperature'] = values.reduce((sum, value) => sum + value, 0) / values.length;
      return rows;
    }
    const value = scheduledValue(given, step, steps);
    if (typeof given !== 'number') this.found['temperature'] = value;
    return value;
  }

  /** What the teachers say of the batch, as the recipe lets it be seen. */
  private target(voices: readonly Voice[], batch: StageBatch, temperature: number | Tensor): Said {
    const { spec } = this;
    const { labels } = batch;
    if (voices.length === 0)
      throw valueError('learn from peers', 'a mutual stage must have at least two students', phrase('there is no other'));
    const { logits, target: only } = voices[0]!;
    if (spec.access === 'topk') return { target: captureTopK(logits, spec.k!, { temperature }), extra: null };
    if (spec.access === 'sampled') {
      const method = spec.method === undefined ? {} : { method: spec.method };
      return { target: sampleTarget(logits, spec.draws!, { temperature, seed: batch.seed, ...method }), extra: null };
    }
    // What comes after the mixture works on probabilities at 1, and is softened as a whole.
    const isLater = spec.groundTruth !== undefined || spec.soften !== undefined || lossName(spec.loss) === 'ofa';
    const at = isLater || temperature === 1 ? undefined : temperature;
    let target: Tensor | DenseTarget = only;
    let extra: Tensor | null = null;
    if (this.mixture !== null) ({ target, extra } = this.mixture.mix(voices, labels, at));
    if (spec.anchor !== undefined) {
      const { from, lambda } = spec.anchor;
      const parts = [
        { target: batch.teacher(from).logits, weight: lambda },
        { target, weight: 1 - lambda },
      ];
      target = mixTargets(parts, at === undefined ? {} : { temperature: at });
    }
    if (spec.labelCorrection !== undefined) target = correctTarget(target, labels, { method: spec.labelCorrection });
    if (spec.soften !== undefined) {
      const { operator, temperature: own } = spec.soften;
      const dense = target;
      target = denseTarget({ probs: noGrad(() => soften(probabilitiesOf(dense), { operator, temperature: own })) });
    }
    if (spec.groundTruth !== undefined) {
      const alpha = scheduledValue(spec.groundTruth, batch.step, batch.steps);
      if (typeof spec.groundTruth !== 'number') this.found['groundTruth'] = alpha;
      target = mixWithLabels(target, labels, { alpha });
    }
    return { target, extra };
  }

  /** Options of the divergence that the recipe gives. */
  private divergence(temperature: number | Tensor): KdLossOptions {
    const { divergence, assistant, residual, temperatureSquared, access } = this.spec;
    return {
      divergence,
      temperature,
      ...(temperatureSquared === undefined ? {} : { temperatureSquared }),
      ...(assistant === undefined ? {} : { assistant }),
      ...(residual === undefined || access === 'full' ? {} : { residual }),
    };
  }

  private compared(
    student: Tensor,
    target: Tensor | DenseTarget | SparseTarget,
    temperature: number | Tensor,
    batch: StageBatch,
    choice: RowChoice,
    hardWeight: number,
    isFirst: boolean,
  ): Tensor {
    const { spec } = this;
    const { labels } = batch;
    const { labelSmoothing } = spec;
    const name = lossName(spec.loss);
    const isFused = name === 'divergence' && spec.taid === undefined && spec.soften?.sides !== 'both';
    if (isFused) return kdLoss(student, target, { ...this.divergence(temperature), labels, hardWeight, labelSmoothing, ...choice });
    const hard = (): Tensor => crossEntropy(student, labels, { labelSmoothing, ...choice });
    if (hardWeight === 1) return hard();
    // Only kdLoss takes sparse targets.
    const dense = target as Tensor | DenseTarget;
    let soft: Tensor;
    if (name === 'divergence') {
      soft =
        spec.taid === undefined
          ? this.softened(student, dense, labels, choice)
          : this.interpolated(student, dense, temperature, batch, choice, isFirst);
    } else soft = this.composed(name, student, dense, temperature, labels, choice);
    return hardWeight === 0 ? soft : add(scale(soft, 1 - hardWeight), scale(hard(), hardWeight));
  }

  /** TAID: the target lies between student and teacher, further on with each step. */
  private interpolated(
    student: Tensor,
    target: Tensor | DenseTarget,
    temperature: number | Tensor,
    { labels, steps }: StageBatch,
    choice: RowChoice,
    isFirst: boolean,
  ): Tensor {
    if (this.taid === null) {
      this.taid = new TaidScheduler({ steps: Math.max(1, steps), ...this.spec.taid });
      if (this.taidState !== null) this.taid.load(this.taidState);
    }
    const { t } = this.taid;
    this.found['t'] = t;
    const { temperatureSquared } = this.spec;
    const loss = kdLoss(student, interpolateTarget(student, logitsOf(target), { t }), {
      divergence: 'soft_cross_entropy',
      temperature,
      ...(temperatureSquared === undefined ? {} : { temperatureSquared }),
      labels,
      ...choice,
    });
    if (isFirst) this.taid.update(loss);
    return loss;
  }

  /** The operator on both sides: D(S_T(p), S_T(q)), with the gradient through S_T. */
  private softened(student: Tensor, target: Tensor | DenseTarget, labels: Int32Array, choice: RowChoice): Tensor {
    const { operator, temperature } = this.spec.soften!;
    const loss = kdLoss(softenedLogits(student, operator, temperature), target, { ...this.divergence(1), labels, ...choice });
    return (this.spec.temperatureSquared ?? true) ? scale(loss, temperature ** 2) : loss;
  }

  private composed(
    name: Exclude<ReturnType<typeof lossName>, 'divergence'>,
    student: Tensor,
    target: Tensor | DenseTarget,
    temperature: number | Tensor,
    labels: Int32Array,
    choice: RowChoice,
  ): Tensor {
    const { loss, temperatureSquared } = this.spec;
    const { kind: _, ...own } = typeof loss === 'string' ? { kind: loss } : loss;
    const squared = temperatureSquared === undefined ? {} : { temperatureSquared };
    if (name === 'ofa') {
      const enhanced = ofaTarget(target, labels, own as OfaOptions);
      return kdLoss(student, enhanced, { divergence: 'soft_cross_entropy', labels, ...choice });
    }
    const teacher = logitsOf(target);
    if (name === 'pld') return plackettLuceLoss(student, teacher, { labels, temperature, ...choice });
    if (name === 'dkd') return dkdLoss(student, teacher, labels, { temperature, ...squared, ...own, ...choice });
    const rows = this.withoutUnlabelled(labels, choice);
    if (name === 'standardized')
      return standardizedKdLoss(student, teacher, { temperature, divergence: this.spec.divergence, ...squared, ...own, ...rows });
    if (name === 'listmle') return listMleLoss(student, teacher, rows);
    if (name === 'concrete_score') return concreteScoreLoss(student, teacher, { ...own, ...rows });
    if (name === 'logit_mse') return logitMseLoss(student, teacher, { ...own, ...rows });
    // The check of the recipe lets no temperature for each row come here.
    const T = temperature as number;
    if (name === 'dist') return distLoss(student, teacher, { temperature: T, ...own, ...rows });
    const bild = name === 'bild' ? bildLoss : dbildLoss;
    return bild(student, teacher, { temperature: T, ...squared, ...own, ...rows });
  }

  /** Losses that know no labels: rows without one get weight 0, and 'rows' counts the others. */
  private withoutUnlabelled(labels: Int32Array, choice: RowChoice): RowChoice {
    if (!labels.includes(-100)) return choice;
    const chosen = choice.rowWeights === undefined ? null : hostCopy(choice.rowWeights, 'read row weights');
    const weights = Float32Array.from(labels, (label, row) => (label === -100 ? 0 : (chosen?.[row] ?? 1)));
    const counted = labels.reduce((count, label) => (label === -100 ? count : count + 1), 0);
    const denominator = choice.denominator === 'weights' ? 'weights' : Math.max(1, counted);
    return { rowWeights: tensor(weights, { device: this.device }), denominator };
  }

  /** A teacher that only says a class: cross-entropy with what it says, less the rows that the critic refuses. */
  private fromText(student: Tensor, batch: StageBatch, hardWeight: number): Tensor {
    const { from, text, labelSmoothing } = this.spec;
    const { labels } = batch;
    const { logits } = batch.teacher(typeof from === 'string' ? from : from[0]!.name);
    const rows = labels.length;
    const said = noGrad(() =>
      text?.draw === 'sample' ? sampleTarget(logits, 1, { seed: batch.seed }).indices.reshape([rows]) : argmax(logits).reshape([rows]),
    );
    const critic = text?.critic ?? 0;
    const words = Int32Array.from(hostCopy(said, 'read what a teacher says'));
    const sure =
      critic > 0
        ? hostCopy(
            noGrad(() => gather(softmax(logits), said.reshape([rows, 1]))),
            'read how sure a teacher is',
          )
        : null;
    let counted = 0;
    let kept = 0;
    words.forEach((_, row) => {
      if (labels[row] === -100) words[row] = -100;
      else {
        counted++;
        if (sure !== null && sure[row]! < critic) words[row] = -100;
        else kept++;
      }
    });
    if (critic > 0) this.found['kept'] = counted === 0 ? 0 : kept / counted;
    if (hardWeight === 1) return crossEntropy(student, labels, { labelSmoothing });
    const soft = crossEntropy(student, words);
    return hardWeight === 0 ? soft : add(scale(soft, 1 - hardWeight), scale(crossEntropy(student, labels, { labelSmoothing }), hardWeight));
  }

  parameters(): Tensor[] {
    return this.mixture?.parameter ? [this.mixture.parameter] : [];
  }

  state(): Record<string, StoredTensor> {
    return this.mixture?.state() ?? {};
  }

  restore(state: Record<string, StoredTensor>): void {
    this.mixture?.restore(state);
  }

  words(): Record<string, unknown> {
    const taid = this.taid?.state() ?? this.taidState;
    return { lastStep: this.lastStep, ...(taid === null ? {} : { taid }), ...this.selection.words() };
  }

  restoreWords(words: Record<string, unknown>): void {
    this.lastStep = words['lastStep'] as number;
    this.taidState = (words['taid'] as TaidState | undefined) ?? null;
    this.taid = null;
    this.selection.restoreWords(words);
  }

  numbers(): Record<string, number> {
    return { ...this.found };
  }

  dispose(): void {
    this.mixture?.dispose();
  }
}

/** Logits that say what a dense target says. */
function logitsOf(target: Tensor | DenseTarget): Tensor {
  if (target instanceof Tensor) return target;
  return target.kind === 'probs' ? noGrad(() => log(target.values)) : target.values;
}

/** Probabilities at 1 of a dense target. */
function probabilitiesOf(target: Tensor | DenseTarget): Tensor {
  if (target instanceof DenseTarget && target.kind === 'probs') return target.values;
  return softmax(logitsOf(target));
}
