// What holds for every row of a cache: what its numbers are, how they are packed, and what they were captured from.

/** What a cache holds of each row: log-probabilities and a tail, weights, or weights that are counts of draws. */
export type CacheKind = 'log_probs' | 'weights' | 'counts';

/** What holds for every row. */
export interface CacheSettings {
  kind: CacheKind;
  /** Columns of the rows the targets were taken from. */
  cols: number;
  /** Slots of a row. */
  k: number;
  /** Of each value. */
  bits: number;
  /** N of weights that are counts/N. */
  draws: number | null;
  /** null: each row has its own. */
  temperature: number | null;
  vocabularyHash: string | null;
  inputHash: string | null;
}

export const mostCols = 2 ** 24;
export const mostK = 2 ** 20;
export const mostBlockRows = 2 ** 16;
export const leastBits = 4;
export const mostBits = 16;

/** A whole number, whatever a file says it is. */
export function isWhole(value: unknown, least: number, most = Number.MAX_SAFE_INTEGER): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= least && value <= most;
}

const isHash = (value: unknown): boolean => value === null || (typeof value === 'string' && value !== '' && value.length <= 256);

/** The first field of settings from a file that cannot be; undefined where all can. */
export function wrongSetting(settings: Partial<Record<keyof CacheSettings, unknown>>): keyof CacheSettings | undefined {
  const { kind, temperature } = settings;
  const checks: Record<keyof CacheSettings, boolean> = {
    kind: kind === 'log_probs' || kind === 'weights' || kind === 'counts',
    cols: isWhole(settings.cols, 1, mostCols),
    k: isWhole(settings.k, 1, mostK),
    bits: isWhole(settings.bits, kind === 'counts' ? 0 : leastBits, kind === 'counts' ? 24 : mostBits),
    draws: kind === 'counts' ? isWhole(settings.draws, 1, 2 ** 24) : settings.draws === null,
    temperature: temperature === null || (typeof temperature === 'number' && temperature > 0 && temperature < Infinity),
    vocabularyHash: isHash(settings.vocabularyHash),
    inputHash: isHash(settings.inputHash),
  };
  return (Object.keys(checks) as (keyof CacheSettings)[]).find((name) => !checks[name]);
}

/** The first setting in which two caches differ, in words; undefined where there is none. */
export function differentSetting(a: CacheSettings, b: CacheSettings): string | undefined {
  const name = (Object.keys(a) as (keyof CacheSettings)[]).find((key) => a[key] !== b[key]);
  return name === undefined ? undefined : `${name} is ${String(a[name])} and ${String(b[name])}`;
}
