// A text as a heat map of teacher against student, as one self-contained page in the manner of the report.
import { checkOptions } from '../check.js';
import { kindError, phrase, valueError } from '../errors.js';
import { count } from '../distill/results.js';
import { noCharts, type HistogramBin } from './chart-data.js';
import { escape, numbersTable, pageHtml, plot } from './page.js';
import { checkTokens, compareTokens, type TokenComparison, type TokenRow } from './tokens.js';

/** Words of the page. */
export interface TextReportWords {
  /** Default 'Teacher against student'. */
  title?: string;
  /** A sentence under the title. */
  description?: string;
  /** What the values are. Default: the divergence's name. */
  measure?: string;
}

/** The text with two models, or with numbers of one's own for each token. */
export type TextReportOptions = TextReportWords & (TokenComparison | { rows: readonly TokenRow[] });

const mostTokens = 20_000;
const mostDifferent = 12;
/** Shares of the tokens below each edge of the colour scale. */
const shares = [0.5, 0.75, 0.9, 0.97];

/**
 * A page that shows a text token by token, darker where teacher and student are further apart, with what each would have said, the spread of the
 * values and a table of all. For at most 20,000 tokens; it holds all it needs and loads nothing.
 *
 * @param options `{ tokens, teacher, student, vocabulary }` and the options of {@link compareTokens}; or `{ rows }` of numbers made elsewhere
 * @returns HTML
 * @throws TypeError, RangeError as compareTokens, and where there is no token or more than 20,000
 * @throws LimbeckError `not_built` in a clone that was not built
 *
 * @example
 * await writeFile('text.html', await textReport({ tokens, teacher: teacherLogits, student: studentLogits, vocabulary }));
 */
export async function textReport(options: TextReportOptions): Promise<string> {
  const action = 'write a text report';
  if (options === undefined) throw kindError(action, 'tokens, teacher, student and vocabulary, or rows, must be given', options);
  const { title = 'Teacher against student', description, measure, ...given } = checkWords(action, options);
  const rows = 'rows' in given ? checkRowsGiven(action, given) : compareTokens(given);
  if (rows.length === 0 || rows.length > mostTokens)
    throw valueError(action, `a text must have from 1 to ${count(mostTokens)} tokens`, phrase(`it has ${count(rows.length)}`));
  const named = measure ?? ('rows' in given ? 'value' : nameOf(given.divergence));
  const finite = rows.map(({ value }) => value).filter(Number.isFinite);
  const bins = histogramOf(finite);
  return pageHtml({
    title,
    kicker: 'limbeck · text',
    lead: description === undefined ? undefined : escape(description),
    body: body(rows, finite, bins, named),
    charts: {
      ...noCharts,
      histograms: bins.length > 0 ? [{ label: named, unit: 'tokens', bins }] : [],
      tokens: rows.map((row, i) => sentence(row, i, named)),
    },
  });
}

function checkWords(action: string, options: TextReportOptions): TextReportOptions {
  checkOptions(action, options, [
    ...(['title', 'description', 'measure', 'rows'] as const),
    ...(['tokens', 'teacher', 'student', 'vocabulary', 'divergence', 'temperature', 'residual'] as const),
  ]);
  for (const name of ['title', 'description', 'measure'] as const) {
    if (options[name] !== undefined && typeof options[name] !== 'string')
      throw kindError(action, `${name} must be a string`, options[name]);
  }
  return options;
}

function checkRowsGiven(action: string, given: object): readonly TokenRow[] {
  const { rows } = checkOptions(action, given as { rows: unknown }, ['rows']);
  if (!Array.isArray(rows)) throw kindError(action, 'rows must be an array of { token, value }', rows);
  checkTokens(
    action,
    rows.map((row: TokenRow | null) => row?.token),
  );
  for (const [i, row] of (rows as TokenRow[]).entries()) {
    if (typeof row.value !== 'number') throw kindError(action, `rows[${i}].value must be a number`, row.value);
    for (const role of ['teacher', 'student'] as const) {
      const choice = row[role];
      if (choice !== undefined && (typeof choice?.token !== 'string' || typeof choice.probability !== 'number'))
        throw kindError(action, `rows[${i}].${role} must be { token, probability }`, choice);
    }
  }
  return rows as TokenRow[];
}

function nameOf(divergence: TokenComparison['divergence']): string {
  const name = divergence === undefined ? 'forward_kl' : typeof divergence === 'string' ? divergence : divergence.kind;
  return name.replaceAll('_', ' ').replace(/\bkl\b/, 'KL');
}

/** Pieces of byte-level vocabularies can be half a character. */
const wellFormed = (token: string): string => token.replace(/\p{Surrogate}/gu, '\ufffd');

/** A token as it can be seen: spaces and control characters have signs. */
function visible(token: string): string {
  if (token === '') return '(empty)';
  const signs: Record<string, string> = { ' ': '␣', '\n': '⏎', '\t': '⇥' };
  return wellFormed(token).replace(
    /[\u0000-\u0020\u007f-\u009f]/g,
    (c) => signs[c] ?? `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
}

const digits = (value: number): string =>
  Number.isFinite(value)
    ? Math.abs(value) >= 0.0005 || value === 0
      ? value.toFixed(3)
      : value.toExponential(1)
    : String(value).replace('Infinity', '∞');
const choiceText = (choice: TokenRow['teacher']): string =>
  choice === undefined ? '' : `${visible(choice.token)} ${choice.probability.toFixed(3)}`;
const disagree = ({ teacher, student }: TokenRow): boolean =>
  teacher !== undefined && student !== undefined && teacher.token !== student.token;

/** What is said of a token, read aloud and shown. */
function sentence(row: TokenRow, i: number, measure: string): string {
  const { token, value, teacher, student } = row;
  const said = (who: string, choice: TokenRow['teacher']): string =>
    choice === undefined ? '' : ` · ${who}: ${visible(choice.token)} at ${(100 * choice.probability).toFixed(1)} %`;
  return `token ${i + 1}: ${visible(token)} · ${measure} ${digits(value)}${said('teacher', teacher)}${said('student', student)}${disagree(row) ? ' · they differ' : ''}`;
}

/** The value that a share of the sorted values is at most. */
const quantile = (sorted: readonly number[], share: number): number => sorted[Math.ceil(share * sorted.length) - 1] ?? 0;

function histogramOf(values: readonly number[]): HistogramBin[] {
  if (values.length === 0) return [];
  const [low, high] = values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)] as const, [Infinity, -Infinity] as const);
  if (low === high) return [];
  const power = 10 ** Math.floor(Math.log10((high - low) / 20));
  const width = [1, 2, 5, 10].map((step) => step * power).find((step) => Math.floor(high / step) - Math.floor(low / step) < 20)!;
  const first = Math.floor(low / width);
  const bins = Array.from({ length: Math.floor(high / width) - first + 1 }, (_, i) => ({
    from: (first + i) * width,
    to: (first + i + 1) * width,
    rows: 0,
  }));
  for (const value of values) bins[Math.floor(value / width) - first]!.rows++;
  return bins;
}

function body(rows: readonly TokenRow[], finite: readonly number[], bins: readonly HistogramBin[], measure: string): string {
  const sorted = finite.toSorted((a, b) => a - b);
  const edges = shares.map((share) => quantile(sorted, share));
  // What is not a finite number is as far apart as can be.
  const levelOf = (value: number): number => (Number.isFinite(value) ? edges.filter((edge) => value > edge).length : edges.length);
  const both = rows.filter(({ teacher, student }) => teacher !== undefined && student !== undefined);
  const differing = both.filter(disagree).length;
  const facts: [string, string][] = [
    [
      'Tokens',
      `${count(rows.length)}${finite.length < rows.length ? `, ${count(rows.length - finite.length)} of them with a value that is not finite` : ''}`,
    ],
    ...(finite.length === 0
      ? []
      : ([
          [
            measure,
            `mean ${digits(finite.reduce((sum, v) => sum + v, 0) / finite.length)}, median ${digits(quantile(sorted, 0.5))}, largest ${digits(sorted.at(-1)!)}`,
          ],
        ] satisfies [string, string][])),
    ...(both.length === 0
      ? []
      : ([
          [
            'Same choice',
            `${count(both.length - differing)} of ${count(both.length)}, ${((100 * (both.length - differing)) / both.length).toFixed(1)} %`,
          ],
        ] satisfies [string, string][])),
  ];
  const cell = (row: TokenRow, i: number): string => {
    const { token, value } = row;
    // Lines stay lines, with a sign that can be pointed at.
    const shown = escape(wellFormed(token).replaceAll('\t', '⇥') || '∅').replaceAll('\n', '⏎<br>');
    const marks = `v${levelOf(value)}${disagree(row) ? ' differ' : ''}`;
    return `<span role="option" aria-selected="false" class="${marks}" data-v="${digits(value)}" id="t${i + 1}">${shown}</span>`;
  };
  const worst = rows
    .map((row, i) => ({ row, i, rank: Number.isNaN(row.value) ? Infinity : row.value }))
    .sort((a, b) => (b.rank === a.rank ? a.i - b.i : b.rank - a.rank))
    .slice(0, mostDifferent);
  const before = (i: number): string =>
    [
      ...rows
        .slice(Math.max(0, i - 24), i)
        .map(({ token }) => visible(token).replaceAll('␣', ' '))
        .join(''),
    ]
      .slice(-24)
      .join('');
  const scale = ['lower half', '50 to 75 %', '75 to 90 %', '90 to 97 %', 'highest 3 %'];
  const bound = (level: number): string => (level === 0 ? `to ${digits(edges[0]!)}` : `above ${digits(edges[level - 1]!)}`);
  return `<section>
<h2>The text</h2>
<dl class="facts wide">
${facts.map(([name, value]) => `<div><dt>${escape(name)}</dt><dd>${escape(value)}</dd></div>`).join('\n')}
</dl>
<ul class="legend scale" aria-label="The scale: ${escape(measure)}">${scale.map((text, level) => `<li><b class="v${level}">abc</b>${text}, ${bound(level)}</li>`).join('')}${differing > 0 ? '<li><b class="differ">abc</b>first choices differ</li>' : ''}</ul>
<p class="note"><label><input type="checkbox" id="numbers"> Show the number of each token</label></p>
<p class="detail" id="detail">Point at a token, or go to one with Tab and on with the arrow keys.</p>
<div class="tokens" id="tokens" role="listbox" aria-label="The text, token by token" aria-describedby="detail">${rows.map(cell).join('')}</div>
</section>
<section>
<h2>Where they are furthest apart</h2>
<div class="scroll" tabindex="0" role="region" aria-label="Where they are furthest apart"><table class="numbers"><thead><tr><th scope="col">token</th><th scope="col">after</th><th scope="col">${escape(measure)}</th><th scope="col">teacher</th><th scope="col">student</th></tr></thead><tbody>
${worst
  .map(
    ({ row, i }) =>
      `<tr><th scope="row"><a href="#t${i + 1}">${i + 1}</a> ${escape(visible(row.token))}</th><td>${escape(before(i))}</td><td>${digits(row.value)}</td><td>${escape(choiceText(row.teacher))}</td><td>${escape(choiceText(row.student))}</td></tr>`,
  )
  .join('\n')}
</tbody></table></div>
</section>
${
  bins.length === 0
    ? ''
    : `<section>
<h2>How the values are spread</h2>
<figure>${plot('histogram', `How many tokens have which ${measure}`, 0)}</figure>
${numbersTable(
  `tokens by ${measure}`,
  ['from', 'to', 'tokens'],
  bins.map(({ from, to, rows: n }) => [String(Number(from.toPrecision(6))), String(Number(to.toPrecision(6))), count(n)]),
)}
</section>
`
}<section>
<h2>Every token</h2>
${numbersTable(
  `every token, its ${measure}, and what each would have said`,
  ['token', measure, 'teacher', 'student'],
  rows.map((row, i) => [`${i + 1} ${visible(row.token)}`, digits(row.value), choiceText(row.teacher), choiceText(row.student)]),
)}
</section>`;
}
