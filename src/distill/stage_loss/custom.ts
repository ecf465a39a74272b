// Losses and target builders that a recipe names and a program brings along.
import { kindError, nearest, phrase } from '../../errors.js';
import { kdLoss } from '../../losses/index.js';
import { memoryless } from './base.js';
import type { CustomTarget } from './spec.js';
import type { StageLoss, StageLossEnvironment } from './types.js';

function named<T>(what: string, parts: Readonly<Record<string, T>> | undefined, name: string): T {
  if (parts !== undefined && Object.hasOwn(parts, name)) return parts[name]!;
  const names = Object.keys(parts ?? {});
  const near = nearest(name, names);
  const was = names.length === 0 ? 'there are none' : near === undefined ? `there are ${names.join(', ')}` : `did you mean "${near}"?`;
  throw kindError(`learn from custom ${what} "${name}"`, `custom.${what} must hold it`, phrase(was));
}

/** A whole loss by name, or kdLoss against what a builder by name makes of each batch. */
export function customLoss(environment: StageLossEnvironment, spec: CustomTarget): StageLoss {
  const { custom } = environment;
  if (spec.loss !== undefined) return named('losses', custom?.losses, spec.loss)(environment);
  const build = named('targets', custom?.targets, spec.target!);
  const { divergence, residual, temperature, hardWeight, options } = spec;
  return memoryless((student, batch) =>
    kdLoss(student.logits, build(student, batch, options), {
      divergence,
      hardWeight,
      labels: batch.labels,
      ...(residual === undefined ? {} : { residual }),
      ...(temperature === undefined ? {} : { temperature }),
    }),
  );
}
