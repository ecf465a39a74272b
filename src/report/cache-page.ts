// What a target cache holds, as one self-contained page in the manner of the report.
import { dirname, resolve } from 'node:path';
import { existsSync } from 'node:fs';
import { spreadsOf, type CacheSummary } from '../cache/summary.js';
import { count } from '../distill/results.js';
import { LimbeckError } from '../errors.js';
import type { ChartData, HistogramBin } from './chart-data.js';
import { clientScript, escape, inlineJson, inlineScript, STYLE } from './report.js';

/** Refuses a place that cannot be written to before the long work. */
export function checkHtmlPath(path: string): void {
  if (!existsSync(dirname(resolve(path)))) throw new LimbeckError('bad_file', `Cannot write ${path}: its folder must exist: it does not`);
}

const explained = [
  'What the kept columns of a row sum to. What is missing to 1 is in the tail, whose mass is stored exactly.',
  'How undecided the teacher is, as far as the kept columns tell.',
  'Columns stored for each row.',
];

/** The page of a cache. */
export async function cachePage(folder: string, summary: CacheSummary): Promise<string> {
  const spreads = spreadsOf(summary).map(({ title, spread, digits }) => {
    const { from, width } = spread;
    const bins = spread.bins.map((rows, i): HistogramBin => ({ from: from + i * width, to: from + (i + 1) * width, rows }));
    return { title, spread, digits, bins };
  });
  const charts: ChartData = {
    series: [],
    error: [],
    nll: [],
    pruning: [],
    reliability: [],
    sparsity: [],
    levels: [],
    histograms: spreads.map(({ title, bins }) => ({ label: title, bins })),
  };
  const { spent, bytesPerRow, cols } = summary;
  const facts: [string, string][] = [
    [
      'Rows',
      `${count(summary.rows)} in ${summary.shards} shard${summary.shards === 1 ? '' : 's'}${summary.unfinishedShards > 0 ? `, ${summary.unfinishedShards} not finished` : ''}`,
    ],
    ['Kept', `at most ${summary.k} of ${count(cols)} columns`],
    [
      'Values',
      summary.kind === 'counts'
        ? `counts of ${summary.draws} draws`
        : `${summary.kind === 'weights' ? 'weights' : 'log-probabilities'} at ${summary.bits} bits`,
    ],
    ['Temperature', summary.temperature === null ? 'its own for each row' : String(summary.temperature)],
    ['Size', `${(summary.bytes / 1e6).toFixed(2)} MB, ${((100 * bytesPerRow) / (4 * cols)).toPrecision(2)} % of the logits in float32`],
    ['Inputs', summary.inputHash ?? 'no hash'],
    ['Vocabulary', summary.vocabularyHash ?? 'no hash'],
  ];
  const parts: [string, number][] = [
    ['ids', spent.ids],
    ['values', spent.values],
    ['mass, tail, scale and count of each row', spent.row],
    ['heads, checksums, index', spent.file],
    ['in all', bytesPerRow],
  ];
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<title>${escape(folder)}</title>
<style>${STYLE}.facts dt { flex-basis: 104px; }</style>
</head>
<body>
<main>
<header>
<p class="kicker">limbeck inspect</p>
<h1>${escape(folder)}</h1>
</header>
<section>
<h2>What it holds</h2>
<dl class="facts">
${facts.map(([name, value]) => `<div><dt>${escape(name)}</dt><dd>${escape(value)}</dd></div>`).join('\n')}
</dl>
</section>
${spreads
  .map(
    ({ title, spread, digits, bins }, i) => `<section>
<h2>${escape(title[0]!.toUpperCase() + title.slice(1))}</h2>
<p class="note">${escape(explained[i]!)} Mean ${spread.mean.toFixed(Math.max(1, digits))}, from ${spread.least.toFixed(digits)} to ${spread.largest.toFixed(digits)}.</p>
${bins.length === 1 ? '' : `<figure><div data-chart="histogram" data-index="${i}"></div></figure>\n`}<details><summary>The numbers</summary><table><thead><tr><th scope="col">from</th><th scope="col">to</th><th scope="col">rows</th></tr></thead><tbody>${bins
      .map(
        ({ from, to, rows }) =>
          `<tr><th scope="row">${from.toFixed(digits)}</th><td>${to.toFixed(digits)}</td><td>${count(rows)}</td></tr>`,
      )
      .join('')}</tbody></table></details>
</section>`,
  )
  .join('\n')}
<section>
<h2>Bytes of a row</h2>
<table><thead><tr><th scope="col">spent on</th><th scope="col">bytes</th></tr></thead><tbody>
${parts.map(([name, bytes]) => `<tr><th scope="row">${name}</th><td data-label="bytes">${bytes.toFixed(2)}</td></tr>`).join('\n')}
</tbody></table>
</section>
</main>
<noscript><p class="note">The charts need JavaScript; words and tables do not.</p></noscript>
<script type="application/json" id="chart-data">${inlineJson(charts)}</script>
<script>${inlineScript(await clientScript())}</script>
</body>
</html>
`;
}
