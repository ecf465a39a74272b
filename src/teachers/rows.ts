// Places of answers as rows of a sparse target: ids, the tail with its digits, and a count of all that did not fit.
import type { Device } from '../device.js';
import { phrase, valueError } from '../errors.js';
import { SparseTarget } from '../targets/target.js';
import { tensor } from '../tensor.js';
import { badAnswer, type AnswerPosition, type TokenEntry } from './answers.js';
import type { Vocabulary } from './vocabulary.js';

/** What was met in all answers so far. */
export interface AnswerReport {
  /** Answers that became rows. */
  answers: number;
  rows: number;
  /** Entries kept. */
  entries: number;
  /** Entries whose token has no id in the vocabulary: their mass is in the tail. */
  unmapped: number;
  /** The probability of those entries, added up over rows; divided by `rows`, the mean share that the vocabulary lost. */
  unmappedMass: number;
  /** Entries beyond k, least likely first: their mass is in the tail. */
  cut: number;
  /** Entries of probability 0 or with a sentinel (−9999) for one. */
  sentinels: number;
  /** Entries of different tokens with one id: their probabilities are added. */
  merged: number;
  /** Entries that were there twice. */
  repeated: number;
  /** Rows whose chosen token was not among the best. */
  chosenOutside: number;
  /** Rows whose chosen token has no id: label −100. */
  unlabelled: number;
  /** Rows without any entry: row weight 0. */
  emptyRows: number;
  /** Answers left out with `badAnswers: 'skip'`. */
  skipped: number;
  /** What was wrong with the first of them, at most 20. */
  problems: string[];
}

export function emptyReport(): AnswerReport {
  return {
    answers: 0,
    rows: 0,
    entries: 0,
    unmapped: 0,
    unmappedMass: 0,
    cut: 0,
    sentinels: 0,
    merged: 0,
    repeated: 0,
    chosenOutside: 0,
    unlabelled: 0,
    emptyRows: 0,
    skipped: 0,
    problems: [],
  };
}

/** Adds the counts of one report to another. */
export function addReport(to: AnswerReport, from: AnswerReport): void {
  for (const name of Object.keys(to) as (keyof AnswerReport)[]) {
    if (name === 'problems') to.problems = [...to.problems, ...from.problems].slice(0, 20);
    else to[name] += from[name];
  }
}

/** How tokens become columns. */
export interface Columns {
  vocabulary: Vocabulary | null;
  /** Whether the server's ids are the student's, or its texts are looked up. */
  ids: 'server' | 'vocabulary';
  cols: number;
}

/** A row of k + 1 slots at most. */
export interface Row {
  ids: number[];
  logProbs: number[];
  tailLogMass: number;
  /** −100 where the chosen token is unknown. */
  label: number;
}

/** What two entries may differ by and still be one: servers round to float32, and to six decimals. */
const sameLog = 1e-4;

/** The column of an entry; undefined where the vocabulary has none. */
function columnOf(where: string, entry: TokenEntry, { vocabulary, ids, cols }: Columns): number | undefined {
  if (ids === 'server') {
    const { id } = entry;
    if (id === null) throw badAnswer(where, "every entry must have an id with ids: 'server'", `'${entry.token}' has none`);
    if (id >= cols) throw badAnswer(where, `every id must be in [0, ${cols})`, `it is ${id}`);
    if (vocabulary !== null) checkId(where, id, entry, vocabulary);
    return id;
  }
  if (entry.bytes !== null) {
    const found = vocabulary!.idOfBytes(entry.bytes);
    if (found !== undefined) return found;
  }
  if (entry.token === null && entry.bytes === null)
    throw badAnswer(where, "every entry must have a text; ids: 'server' takes the server's ids", `there is only the id ${entry.id}`);
  // U+FFFD stands for bytes that are no letter: it names no token.
  if (entry.token === null || entry.token.includes('\uFFFD')) return undefined;
  return vocabulary!.idOf(entry.token);
}

/** An id must be that of its text: servers strip a leading space now and then, but do not change letters. */
function checkId(where: string, id: number, { token, bytes }: TokenEntry, vocabulary: Vocabulary): void {
  const text = bytes !== null ? Buffer.from(bytes).toString('utf8') : token;
  const own = vocabulary.textOf(id);
  if (text === null || own === undefined || text.includes('\uFFFD') || own.includes('\uFFFD')) return;
  if (vocabulary.idOf(text) === undefined || text.trim() === own.trim()) return;
  throw badAnswer(where, 'every id must be that of its token in the vocabulary', `${id} is '${own}' there and '${text}' here`);
}

/** What makes two entries the same token, where the answer says it. */
function identityOf({ id, bytes, token }: TokenEntry): string {
  return id !== null ? `#${id}` : bytes !== null ? `b${bytes.join(',')}` : `t${token}`;
}

/** Whether two entries name one token, by the most exact thing that both have. */
function isSameToken(a: TokenEntry, b: TokenEntry): boolean {
  if (a.id !== null && b.id !== null) return a.id === b.id;
  if (a.bytes !== null && b.bytes !== null) return a.bytes.length === b.bytes.length && a.bytes.every((byte, i) => byte === b.bytes![i]);
  return a.token !== null && a.token === b.token;
}

/**
 * A row from a place: the best k of its entries, and the chosen token where it is not among them. The tail is what is missing to 1
 * and all that was left out.
 *
 * @throws LimbeckError `bad_answer` where ids, log-probabilities or their sum cannot be
 */
export function rowOf(where: string, position: AnswerPosition, k: number, columns: Columns, report: AnswerReport): Row {
  const distinct: TokenEntry[] = [];
  const byIdentity = new Map<string, TokenEntry>();
  for (const entry of position.entries) {
    const identity = identityOf(entry);
    const other = byIdentity.get(identity);
    const isSame = other !== undefined && (other.logProb === entry.logProb || Math.abs(other.logProb - entry.logProb) <= sameLog);
    if (isSame) {
      report.repeated++;
      continue;
    }
    // Two tokens may have the same text; the same id or bytes twice with two probabilities is a contradiction.
    if (other !== undefined && (entry.id !== null || entry.bytes !== null))
      throw badAnswer(
        where,
        'a token must have one log-probability',
        `${entry.token ?? entry.id} has ${other.logProb} and ${entry.logProb}`,
      );
    byIdentity.set(identity, entry);
    distinct.push(entry);
  }
  const { chosen } = position;
  const isListed = chosen === null || distinct.some((entry) => isSameToken(entry, chosen));
  if (!isListed) {
    report.chosenOutside++;
    distinct.push(chosen);
  }
  let mass = 0;
  let dropped = 0;
  const found = new Map<number, number>();
  for (const entry of distinct) {
    const probability = Math.exp(entry.logProb);
    mass += probability;
    const column = columnOf(where, entry, columns);
    if (probability === 0) {
      report.sentinels++;
    } else if (column === undefined) {
      report.unmapped++;
      report.unmappedMass += probability;
      dropped += probability;
    } else {
      if (found.has(column)) report.merged++;
      found.set(column, (found.get(column) ?? 0) + probability);
    }
  }
  if (!(mass <= 1 + 1e-3)) throw badAnswer(where, 'the probabilities of a token must sum to at most 1', `they sum to ${mass}`);
  const label = chosen === null ? -100 : (columnOf(where, chosen, columns) ?? -100);
  if (label === -100) report.unlabelled++;
  const sorted = [...found].sort(([a, p], [b, q]) => q - p || a - b);
  const kept: [number, number][] = [];
  sorted.forEach(([column, probability], i) => {
    if (i < k || (!isListed && column === label)) kept.push([column, probability]);
    else dropped += probability;
  });
  report.cut += sorted.length - kept.length;
  report.entries += kept.length;
  report.rows++;
  if (kept.length === 0) report.emptyRows++;
  return {
    ids: kept.map(([column]) => column),
    logProbs: kept.map(([, probability]) => Math.log(probability)),
    tailLogMass: Math.log(Math.max(0, 1 - mass) + dropped),
    label,
  };
}

/** A sparse target of rows, each filled up to k + 1 slots. */
export function sparseOf(rows: readonly Row[], k: number, cols: number, temperature: number, device: Device | undefined): SparseTarget {
  const slots = k + 1;
  const indices = new Int32Array(rows.length * slots).fill(-1);
  const logProbs = new Float32Array(rows.length * slots);
  rows.forEach((row, r) => {
    if (row.ids.length > slots)
      throw valueError('make a target', `a row must have at most ${slots} entries`, phrase(`it has ${row.ids.length}`));
    indices.set(row.ids, r * slots);
    logProbs.set(row.logProbs, r * slots);
  });
  const shape = [rows.length, slots];
  return new SparseTarget({
    indices: tensor(indices, { shape, device }),
    logProbs: tensor(logProbs, { shape, device }),
    weights: null,
    tailLogMass: tensor(
      Float32Array.from(rows, ({ tailLogMass }) => tailLogMass),
      { shape: [rows.length], device },
    ),
    temperature,
    cols,
  });
}
