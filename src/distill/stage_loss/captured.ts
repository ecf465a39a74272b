// Learning from a file of targets.
import { kdLoss } from '../../losses/index.js';
import { memoryless } from './base.js';
import { scheduledValue } from './schedule.js';
import type { CapturedTarget } from './spec.js';
import type { StageLoss, StageLossEnvironment } from './types.js';

/** kdLoss against the rows of a capture stage's file. */
export function capturedLoss({ captured }: StageLossEnvironment, spec: CapturedTarget): StageLoss {
  const targets = captured(spec.from);
  const { divergence, residual, labelSmoothing, temperatureSquared, assistant, temperature } = spec;
  return memoryless(({ logits }, { rows, labels, step, steps, epoch }) => {
    return kdLoss(logits, targets.rows(rows, Math.floor(epoch)), {
      divergence,
      labels,
      labelSmoothing,
      hardWeight: scheduledValue(spec.hardWeight, step, steps),
      ...(temperatureSquared === undefined ? {} : { temperatureSquared }),
      ...(residual === undefined ? {} : { residual }),
      ...(assistant === undefined ? {} : { assistant }),
      ...(temperature === undefined ? {} : { temperature: scheduledValue(temperature, step, steps) }),
    });
  });
}
