// Probabilities that are softened, or meet a divergence that needs it, must sum to 1.
import { phrase, valueError } from '../errors.js';
import type { DenseTarget } from '../targets/target.js';
import { hostCopy, Tensor } from '../tensor.js';

const tolerance = 1e-3;

interface RowSelection {
  temperature?: number | Tensor;
  ignoreIndex?: number;
  rowWeights?: Tensor;
}

/** @throws RangeError where a row that is read has a mass further than 1e-3 from 1 */
export function checkMasses(
  action: string,
  target: DenseTarget,
  cols: number,
  options: RowSelection,
  anyMass: boolean,
  labelsOf: () => ArrayLike<number> | null,
): void {
  const { temperature = 1 } = options;
  if (anyMass && temperature === 1) return;
  const masses = target.masses(cols);
  const wrong = wrongRows(masses);
  if (wrong.length === 0) return;
  // Rows that are not read may hold anything.
  const temperatures = temperature instanceof Tensor ? hostCopy(temperature, action) : null;
  const labels = labelsOf();
  const weights = options.rowWeights === undefined ? null : hostCopy(options.rowWeights, action);
  for (const r of wrong) {
    if (anyMass && temperatures?.[r] === 1) continue;
    if (labels?.[r] === (options.ignoreIndex ?? -100)) continue;
    if (weights?.[r] === 0) continue;
    throw massError(action, masses[r]!, r);
  }
}

export function massError(action: string, mass: number, row: number): RangeError {
  return valueError(
    action,
    'the probabilities of a row must sum to 1 within 1e-3 at a temperature other than 1',
    phrase(`they sum to ${mass} in row ${row}`),
  );
}

/** Rows whose mass is known to be wrong; NaN and ∞ are left to the kernel, which gives such a row NaN. */
export function wrongRows(masses: ArrayLike<number>): number[] {
  const wrong: number[] = [];
  for (let r = 0; r < masses.length; r++) if (Math.abs(masses[r]! - 1) > tolerance && masses[r]! < Infinity) wrong.push(r);
  return wrong;
}
