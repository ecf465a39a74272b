// `limbeck methods`: the field's methods, what each needs and whether it runs here, as a table, one entry or JSON.
import { checkOneOf } from '../check.js';
import { nearest, phrase, valueError } from '../errors.js';
import {
  findPrimitive,
  groups,
  methods,
  primitiveRuns,
  primitives,
  runsHere,
  type Group,
  type Method,
  type Primitive,
  type Runs,
  type Source,
} from '../methods/index.js';

/** What narrows the list down. */
export interface MethodFilters {
  list?: 'A' | 'B';
  primitive?: string;
  runs?: Runs;
}

/** What was found; `whole` where nothing narrowed it down. */
export interface Selection {
  methods: readonly Method[];
  groups: readonly Group[];
  whole: boolean;
}

const runsText: Record<Runs, string> = {
  yes: 'runs here',
  partly: 'runs in part',
  no: 'does not run here yet',
  outside: 'needs none of the primitives',
};

const sourceText: Record<Source, string> = {
  V: "compared with the paper's text, its code or detailed notes",
  A: 'abstract read',
  M: 'from memory',
  T: 'title only',
};

const fold = (text: string): string => text.normalize('NFKD').replace(/\p{M}/gu, '').toLowerCase();

/** [1, 2, 3, 5] as '1–3,5'. */
function ranges(entries: readonly number[]): string {
  const parts: string[] = [];
  for (let i = 0; i < entries.length; i++) {
    const first = entries[i]!;
    const start = i;
    while (entries[i + 1] === entries[i]! + 1) i++;
    const last = entries[i]!;
    if (i - start >= 2) parts.push(`${first}–${last}`);
    else for (let n = start; n <= i; n++) parts.push(String(entries[n]));
  }
  return parts.join(',');
}

/** Whether an entry passes the filters, and all words occur in its number, name, summary, year or primitives. */
function matches(
  words: readonly string[],
  filters: MethodFilters,
  list: 'A' | 'B',
  entries: readonly number[],
  codes: readonly string[],
  texts: string[],
): boolean {
  if (filters.list !== undefined && filters.list !== list) return false;
  if (filters.primitive !== undefined && !codes.includes(filters.primitive)) return false;
  if (filters.runs !== undefined && runsHere(codes) !== filters.runs) return false;
  const ids = entries.map((entry) => `${list}${entry}`.toLowerCase());
  const text = fold([...texts, ...codes].join(' '));
  return words.every((word) => ids.includes(word.toLowerCase()) || text.includes(fold(word)));
}

/** @throws RangeError for a code there is not, and where words were given and nothing holds them */
export function selectMethods(words: readonly string[], filters: MethodFilters): Selection {
  const { list, primitive, runs } = filters;
  if (primitive !== undefined)
    checkOneOf(
      'list methods',
      '--primitive',
      primitive,
      primitives.map(({ code }) => code),
    );
  const found: Selection = {
    methods: methods.filter((m) => matches(words, filters, m.list, m.entries, m.primitives, [m.name, m.summary, String(m.year)])),
    groups: groups.filter((g) => matches(words, filters, 'B', g.entries, g.primitives, [g.title])),
    whole: words.length === 0 && list === undefined && primitive === undefined && runs === undefined,
  };
  if (words.length > 0 && found.methods.length + found.groups.length === 0) {
    const names = methods.flatMap(({ name }) => [name, ...name.split(/[^\p{L}\p{N}-]+/u)]).filter((name) => name.length > 2);
    const near = nearest(words.join(' '), names);
    throw valueError(
      'find a method',
      `an entry, name or summary must hold '${words.join(' ')}'`,
      phrase(`none does${near === undefined ? '' : `; did you mean '${near}'?`}`),
    );
  }
  return found;
}

/** The one method or primitive that the words name, if they do: 'TAID', 'B130', 'IS', or what only one method holds. */
export function namedOne(words: readonly string[], found: Selection): Method | Primitive | undefined {
  if (words.length === 0) return undefined;
  const primitive = words.length === 1 ? primitives.find(({ code }) => code === words[0]) : undefined;
  if (primitive !== undefined) return primitive;
  const wanted = fold(words.join(' '));
  const id = found.methods.filter((m) => m.entries.some((entry) => fold(`${m.list}${entry}`) === wanted));
  if (id.length === 1) return id[0];
  const exact = found.methods.filter((m) => m.sameAs === undefined && fold(m.name) === wanted);
  if (exact.length === 1) return exact[0];
  const distinct = found.methods.filter(
    (m) => m.sameAs === undefined || !found.methods.some((other) => other.list === 'A' && other.entries[0] === m.sameAs),
  );
  return distinct.length === 1 && found.groups.length === 0 ? distinct[0] : undefined;
}

interface Column {
  title: string;
  cells: string[];
  /** Narrowed to no less than this where the terminal is narrow, and left out where that is not enough. */
  least: number;
  /** 0 is never left out; the highest goes first. */
  rank: number;
}

const gap = 2;

function cut(text: string, width: number): string {
  const letters = [...text];
  return letters.length <= width
    ? text
    : `${letters
        .slice(0, width - 1)
        .join('')
        .trimEnd()}…`;
}

const lengthOf = (text: string): number => [...text].length;

/** Columns that fit the width: narrowed from the highest rank down, and left out where they do not fit at their narrowest. */
function table(columns: Column[], width: number): string {
  const total = (shown: Column[], of: (column: Column) => number): number => shown.reduce((sum, column) => sum + of(column) + gap, -gap);
  const widths = new Map(columns.map((column) => [column, Math.max(...[column.title, ...column.cells].map(lengthOf))]));
  const widthOf = (column: Column): number => widths.get(column)!;
  const narrowest = (column: Column): number => Math.min(column.least, widthOf(column));
  const byRank = [...columns].sort((a, b) => b.rank - a.rank);
  let shown = columns;
  for (const column of byRank) {
    if (column.rank > 0 && total(shown, narrowest) > width) shown = shown.filter((other) => other !== column);
  }
  for (const column of byRank) {
    const excess = total(shown, widthOf) - width;
    if (excess > 0 && shown.includes(column)) widths.set(column, Math.max(widthOf(column) - excess, narrowest(column)));
  }
  const line = (cell: (column: Column) => string): string =>
    shown
      .map((column) => {
        const text = cut(cell(column), widthOf(column));
        return text + ' '.repeat(widthOf(column) - lengthOf(text));
      })
      .join(' '.repeat(gap))
      .trimEnd();
  const rows = columns[0]!.cells.map((_, i) => line((column) => column.cells[i]!));
  return [line((column) => column.title), line((column) => '─'.repeat(widthOf(column))), ...rows].join('\n');
}

function countsOf(each: readonly { primitives: readonly string[] }[]): Record<Runs, number> {
  const counts: Record<Runs, number> = { yes: 0, partly: 0, no: 0, outside: 0 };
  for (const { primitives: codes } of each) counts[runsHere(codes)]++;
  return counts;
}

function countsText(counts: Record<Runs, number>): string {
  return `${counts.yes} run here, ${counts.partly} in part, ${counts.no} not yet, ${counts.outside} need none of the primitives`;
}

const entriesOf = (each: readonly { entries: readonly number[] }[]): number => each.reduce((sum, { entries }) => sum + entries.length, 0);

/** The list for people, no wider than `width` columns. */
export function methodsText(found: Selection, width: number): string {
  const parts: string[] = [];
  if (found.methods.length > 0) {
    const column = (title: string, least: number, rank: number, text: (m: Method) => string): Column => ({
      title,
      cells: found.methods.map(text),
      least,
      rank,
    });
    parts.push(
      table(
        [
          column('entry', 6, 1, (m) => m.list + ranges(m.entries)),
          column('runs', 7, 2, (m) => runsHere(m.primitives)),
          column('year', 4, 4, (m) => String(m.year)),
          column('method', 26, 0, (m) => m.name),
          column('needs', 14, 3, (m) => m.primitives.join(' ')),
          column('what is distilled, and how', 30, 5, (m) => m.summary),
        ],
        width,
      ),
      '',
    );
  }
  if (found.groups.length > 0) {
    const column = (title: string, least: number, rank: number, text: (g: Group) => string): Column => ({
      title,
      cells: found.groups.map(text),
      least,
      rank,
    });
    parts.push(
      table(
        [
          column('entries', 7, 1, (g) => String(g.entries.length)),
          column('runs', 7, 2, (g) => runsHere(g.primitives)),
          column('other entries of list B, by group', 20, 0, (g) => g.title),
          column('needs', 4, 3, (g) => g.primitives.join(' ')),
        ],
        width,
      ),
      '',
    );
  }
  const ofAll = found.whole ? '' : ` of ${methods.length}`;
  parts.push(wrap(`${found.methods.length}${ofAll} methods: ${countsText(countsOf(found.methods))}.`, width));
  if (found.whole) {
    const rows = methods.filter(({ list }) => list === 'B');
    parts.push(
      wrap(
        `List A: ${methods.length - rows.length} papers. List B: ${entriesOf(rows)} entries in ${rows.length} rows, and ` +
          `${entriesOf(groups)} in ${groups.length} groups: ${entriesOf(rows) + entriesOf(groups)} entries.`,
        width,
      ),
    );
  }
  if (found.methods.length > 1)
    parts.push(wrap('One method in full: limbeck methods TAID. What "needs" means: limbeck methods --primitives.', width));
  return parts.join('\n');
}

/** Every primitive, what it is and how many methods need it. */
export function primitivesText(width: number): string {
  const column = (title: string, least: number, rank: number, text: (p: Primitive) => string): Column => ({
    title,
    cells: primitives.map(text),
    least,
    rank,
  });
  const needed = (p: Primitive): number => methods.filter((m) => m.sameAs === undefined && m.primitives.includes(p.code)).length;
  return [
    table(
      [
        column('code', 6, 0, (p) => p.code),
        column('runs', 6, 1, primitiveRuns),
        column('methods', 7, 3, (p) => String(needed(p))),
        column('primitive', 20, 2, (p) => p.title),
        column('not yet', 24, 4, (p) => p.notYet?.replaceAll('`', '') ?? ''),
      ],
      width,
    ),
    '',
    wrap('The calls of one: limbeck methods FKL. The methods that need it: limbeck methods --primitive FKL.', width),
  ].join('\n');
}

/** Words into lines of at most `width`, the first after `start` and the others after `indent`. */
function wrap(text: string, width: number, start = '', indent = ''): string {
  const lines: string[] = [];
  let line = start;
  let isEmpty = true;
  for (const word of text.split(' ')) {
    if (!isEmpty && lengthOf(line) + 1 + lengthOf(word) > width) {
      lines.push(line);
      line = indent;
      isEmpty = true;
    }
    line += isEmpty ? word : ` ${word}`;
    isEmpty = false;
  }
  return [...lines, line].join('\n');
}

const codeColumn = 8;
const indent = ' '.repeat(codeColumn);

function primitiveLines(primitive: Primitive, width: number): string[] {
  const { code, title, calls, notYet } = primitive;
  const lines = [wrap(`${title}: ${runsText[primitiveRuns(primitive)]}`, width, code.padEnd(codeColumn), indent)];
  // A call stays on its line, to be copied.
  for (const call of calls) lines.push(indent + call);
  if (notYet !== undefined) lines.push(wrap(`not yet: ${notYet.replaceAll('`', '')}`, width, indent, indent));
  return lines;
}

/** One method or primitive in full. */
export function oneText(one: Method | Primitive, width: number): string {
  if ('code' in one) return primitiveLines(one, width).join('\n');
  const { list, entries, name, year, summary, sameAs, primitives: codes, source } = one;
  const where = `list ${list}, ${entries.length > 1 ? 'entries' : 'entry'} ${ranges(entries)}${sameAs === undefined ? '' : `; list A, entry ${sameAs}`}`;
  const lines = [wrap(`${name}, ${year} (${where})`, width), wrap(summary, width), `It ${runsText[runsHere(codes)]}.`, ''];
  for (const code of codes) lines.push(...primitiveLines(findPrimitive(code), width), '');
  lines.push(wrap(`Source: ${source.map((letter) => sourceText[letter]).join('; ')}.`, width));
  return lines.join('\n');
}

/** The same as data. */
export function methodsJson(found: Selection): object {
  const withRuns = <T extends { primitives: readonly string[] }>(each: T): T & { runs: Runs } => ({
    ...each,
    runs: runsHere(each.primitives),
  });
  return {
    methods: found.methods.map(withRuns),
    groups: found.groups.map(withRuns),
    counts: countsOf(found.methods),
  };
}

export function oneJson(one: Method | Primitive): object {
  if ('code' in one) return { ...one, runs: primitiveRuns(one) };
  const needs = one.primitives.map((code) => oneJson(findPrimitive(code)));
  return { ...one, runs: runsHere(one.primitives), primitives: needs };
}

export function primitivesJson(): object {
  return primitives.map(oneJson);
}
