// What a stage learns from: a recipe's `target` made into a loss.
import { deriveSeed } from '../../nn/seed.js';
import { crossEntropy } from '../../losses/index.js';
import { memoryless } from './base.js';
import { capturedLoss } from './captured.js';
import { customLoss } from './custom.js';
import { FeaturesLoss } from './features.js';
import type { TargetSpec } from './spec.js';
import { HeadsLoss, SumLoss } from './sum.js';
import { TeacherLoss } from './teacher.js';
import type { StageLoss, StageLossEnvironment } from './types.js';

export { checkTarget, targetNeeds, type TargetNeeds, type TargetReferences } from './check.js';
export { scheduledValue } from './schedule.js';
export type * from './spec.js';
export type { CapturedTargets, CustomTargets, StageBatch, StageLoss, StageLossEnvironment, StudentOutput } from './types.js';

/** The loss that a stage trains by. */
export function stageLoss(environment: StageLossEnvironment): StageLoss {
  const { spec } = environment;
  switch (spec.kind) {
    case 'labels': {
      const { labelSmoothing } = spec;
      return memoryless(({ logits }, { labels }) => crossEntropy(logits, labels, { labelSmoothing }));
    }
    case 'captured':
      return capturedLoss(environment, spec);
    case 'teacher':
      return new TeacherLoss(environment, spec);
    case 'sum':
      return new SumLoss(spec, parts(environment, spec.parts));
    case 'heads':
      return new HeadsLoss(spec, parts(environment, spec.heads));
    case 'custom':
      return customLoss(environment, spec);
    case 'features':
      return new FeaturesLoss(environment, spec);
  }
}

function parts(environment: StageLossEnvironment, of: readonly { target: TargetSpec }[]): StageLoss[] {
  return of.map(({ target }, i) => stageLoss({ ...environment, spec: target, seed: deriveSeed(environment.seed, 'part', i) }));
}
