// The field's methods, the primitives each needs, and which of them run here.
import data from './methods.json' with { type: 'json' };

/** One thing that methods are made of. */
export interface Primitive {
  code: string;
  title: string;
  /** How limbeck is called for it; none: it does not run here. */
  calls: readonly string[];
  /** What of it does not run here. */
  notYet?: string;
}

/** A: abstract. V: compared with the paper's text, its code or detailed notes. M: from memory. T: title only. */
export type Source = 'A' | 'V' | 'M' | 'T';

/** A row of list A (a paper) or of list B (entries of a bibliography on one paper). */
export interface Method {
  list: 'A' | 'B';
  entries: readonly number[];
  name: string;
  year: number;
  /** The entry of list A that is the same paper. */
  sameAs?: number;
  summary: string;
  primitives: readonly string[];
  source: readonly Source[];
}

/** Entries of list B without a row of their own. */
export interface Group {
  title: string;
  primitives: readonly string[];
  entries: readonly number[];
}

/** 'outside': nothing of what limbeck is for is needed. */
export type Runs = 'yes' | 'partly' | 'no' | 'outside';

export const primitives: readonly Primitive[] = data.primitives;
export const methods = data.methods as readonly Method[];
export const groups: readonly Group[] = data.groups;

const byCode = new Map(primitives.map((primitive) => [primitive.code, primitive]));

export function findPrimitive(code: string): Primitive {
  return byCode.get(code)!;
}

export function primitiveRuns({ calls, notYet }: Primitive): Runs {
  if (calls.length === 0) return 'no';
  return notYet === undefined ? 'yes' : 'partly';
}

/** What needs several primitives runs where all of them do, and in part where any of them does. */
export function runsHere(codes: readonly string[]): Runs {
  if (codes.length === 0) return 'outside';
  const each = codes.map((code) => primitiveRuns(findPrimitive(code)));
  if (each.every((runs) => runs === 'yes')) return 'yes';
  return each.every((runs) => runs === 'no') ? 'no' : 'partly';
}
