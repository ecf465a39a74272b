// Which numbers a loss tells of its batches, known from the target's data alone: what checks may ask for.
import { lossName } from './check.js';
import type { Scheduled, TargetSpec, TeacherTarget } from './spec.js';

const isMoving = (value: Scheduled): boolean => typeof value !== 'number';

/**
 * The names of `StageLoss.numbers()`.
 *
 * @param peers the other students of a mutual stage
 * @returns null where a loss written in TypeScript has names of its own
 */
export function targetNumbers(target: TargetSpec, peers: readonly string[] = []): string[] | null {
  switch (target.kind) {
    case 'labels':
    case 'captured':
      return [];
    case 'custom':
      return target.loss === undefined ? [] : null;
    case 'features':
      return target.pairs.length > 1 ? target.pairs.map((_, i) => `pair${i}`) : [];
    case 'sum':
      return together(
        target.parts.map(({ weight, target: own }, i) => {
          if (weight === 0) return [];
          const inner = targetNumbers(own, peers);
          return inner && [`${i}.loss`, ...(typeof weight === 'number' ? [] : [`${i}.weight`]), ...inner.map((name) => `${i}.${name}`)];
        }),
      );
    case 'heads':
      return together(
        target.heads.map(({ target: own }, i) => {
          const inner = targetNumbers(own, peers);
          return inner && [`${i}.loss`, ...inner.map((name) => `${i}.${name}`)];
        }),
      );
    case 'teacher':
      return teacherNumbers(target, peers);
  }
}

function together(parts: readonly (readonly string[] | null)[]): string[] | null {
  return parts.some((part) => part === null) ? null : parts.flatMap((part) => part!);
}

function teacherNumbers(target: TeacherTarget, peers: readonly string[]): string[] {
  const { from, access, hardWeight, text, temperature, groundTruth, taid, select, mixWeights } = target;
  const names: string[] = [];
  if (isMoving(hardWeight)) names.push('hardWeight');
  if (access === 'text') return (text?.critic ?? 0) > 0 ? [...names, 'kept'] : names;
  if (temperature !== undefined && typeof temperature === 'object') names.push('temperature');
  if (groundTruth !== undefined && isMoving(groundTruth)) names.push('groundTruth');
  if (taid !== undefined && lossName(target.loss) === 'divergence') names.push('t');
  const teachers = from === 'peers' ? peers : typeof from === 'string' ? [from] : from.map(({ name }) => name);
  if (from === 'peers' || teachers.length > 1) names.push(...teachers.map((name) => `weight.${name}`));
  if (mixWeights === 'learned') names.push('mixtureNll');
  if (select !== undefined) names.push(select.rule === 'speckd' ? 'acceptance' : 'kept');
  return names;
}
