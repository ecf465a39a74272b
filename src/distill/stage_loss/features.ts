// Learning from the inner values of an earlier stage: pairs of layers, each with its loss and, where needed, a learned projector.
import { phrase, valueError } from '../../errors.js';
import {
  attentionRelationLoss,
  ckaLoss,
  featureCosine,
  featureHuber,
  featureMse,
  FeatureProjector,
  gramLoss,
  infoNceLoss,
  relationKd,
} from '../../losses/index.js';
import { deriveSeed } from '../../nn/seed.js';
import { add, globalAvgPool2d, scale } from '../../ops/index.js';
import type { StoredTensor } from '../../safetensors.js';
import type { Tensor } from '../../tensor.js';
import { restoreParameter } from './mixture.js';
import type { FeaturePair, FeaturesTarget } from './spec.js';
import type { StageBatch, StageLoss, StageLossEnvironment, StudentOutput } from './types.js';

/** Losses that compare value by value, and so need one width. */
const ofOneWidth: readonly FeaturePair['loss'][] = ['mse', 'cosine', 'huber', 'contrastive'];

interface Pair extends FeaturePair {
  learned: FeatureProjector | null;
}

/** {@link StageLoss} of a target of kind 'features': Σ weight · loss over the pairs, each the mean over its rows. */
export class FeaturesLoss implements StageLoss {
  private readonly pairs: readonly Pair[];
  private found: Record<string, number> = {};

  constructor(
    { featureWidths, device, seed }: StageLossEnvironment,
    private readonly spec: FeaturesTarget,
  ) {
    const action = 'learn from features';
    if (featureWidths === undefined)
      throw valueError(action, 'the models must be ones that give their features', phrase('the widths are not known'));
    const [own, other] = [featureWidths.student, featureWidths.teacher(spec.from)];
    this.pairs = spec.pairs.map((pair, i) => {
      const [from, to] = [
        widthOf(action, `pairs[${i}].student`, own, pair.student),
        widthOf(action, `pairs[${i}].teacher`, other, pair.teacher),
      ];
      const isNeeded = pair.projector ?? (from !== to && ofOneWidth.includes(pair.loss));
      if (!isNeeded && from !== to && ofOneWidth.includes(pair.loss))
        throw valueError(
          action,
          `pairs[${i}].projector must not be false where the widths differ with loss "${pair.loss}"`,
          phrase(`they are ${from} and ${to}`),
        );
      return { ...pair, learned: isNeeded ? new FeatureProjector(from, to, { seed: deriveSeed(seed, 'projector', i), device }) : null };
    });
  }

  of(student: StudentOutput, batch: StageBatch): Tensor {
    this.found = {};
    const teacher = batch.teacher(this.spec.from);
    let total: Tensor | null = null;
    this.pairs.forEach((pair, i) => {
      const loss = compared(pair, at(student.features, pair.student), at(teacher.features, pair.teacher).detach());
      if (this.pairs.length > 1) this.found[`pair${i}`] = loss.item();
      const { weight = 1 } = pair;
      const part = weight === 1 ? loss : scale(loss, weight);
      total = total === null ? part : add(total, part);
    });
    return total!;
  }

  parameters(): Tensor[] {
    return [...this.named()].map(([, parameter]) => parameter);
  }

  private *named(): Generator<[string, Tensor]> {
    for (const [i, { learned }] of this.pairs.entries()) if (learned !== null) yield* learned.namedParameters(`projector${i}.`);
  }

  state(): Record<string, StoredTensor> {
    return Object.assign(
      {},
      ...this.pairs.map(({ learned }, i) =>
        Object.fromEntries(Object.entries(learned?.stateDict() ?? {}).map(([name, stored]) => [`projector${i}.${name}`, stored])),
      ),
    ) as Record<string, StoredTensor>;
  }

  restore(state: Record<string, StoredTensor>): void {
    for (const [name, parameter] of this.named()) restoreParameter(parameter, state[name], name);
  }

  words(): Record<string, unknown> {
    return {};
  }

  restoreWords(): void {
    // Nothing moves by itself here.
  }

  numbers(): Record<string, number> {
    return { ...this.found };
  }

  dispose(): void {
    for (const { learned } of this.pairs) learned?.dispose();
  }
}

function widthOf(action: string, field: string, widths: readonly number[], index: number): number {
  const width = widths.at(index);
  if (width === undefined)
    throw valueError(
      action,
      `${field} must be the number of a layer, from ${-widths.length} to ${widths.length - 1}`,
      phrase(widths.length === 0 ? 'the model gives no features' : `it is ${index}`),
    );
  return width;
}

/** The values of a layer; an image's channels are averaged over its positions. */
function at(features: readonly Tensor[], index: number): Tensor {
  const found = features.at(index)!;
  return found.shape.length === 4 ? globalAvgPool2d(found) : found;
}

function compared({ loss, learned }: Pair, student: Tensor, teacher: Tensor): Tensor {
  const options = learned === null ? {} : { projector: learned };
  switch (loss) {
    case 'mse':
      return featureMse(student, teacher, options);
    case 'cosine':
      return featureCosine(student, teacher, options);
    case 'huber':
      return featureHuber(student, teacher, options);
    case 'contrastive':
      return infoNceLoss(learned === null ? student : learned.forward(student), teacher);
    case 'gram':
      return gramLoss(student, teacher);
    case 'relation':
      return relationKd(student, teacher);
    case 'cka':
      return ckaLoss(student, teacher);
    case 'attention_relation':
      return attentionRelationLoss(student, teacher);
  }
}
