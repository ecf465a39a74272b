// What a target cache holds, as one self-contained page in the manner of the report.
import { dirname, resolve } from 'node:path';
import { existsSync } from 'node:fs';
import type { CacheSummary } from '../cache/summary.js';
import { count, size } from '../distill/results.js';
import { LimbeckError } from '../errors.js';
import { keptHistograms, noCharts } from './chart-data.js';
import { escape, pageHtml } from './page.js';
import { spreadParts } from './spreads.js';

/** Refuses a place that cannot be written to before the long work. */
export function checkHtmlPath(path: string): void {
  if (!existsSync(dirname(resolve(path)))) throw new LimbeckError('bad_file', `Cannot write ${path}: its folder must exist: it does not`);
}

/** The page of a cache. */
export async function cachePage(folder: string, summary: CacheSummary): Promise<string> {
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
    ['Size', `${size(summary.bytes)}, ${((100 * bytesPerRow) / (4 * cols)).toPrecision(2)} % of the logits in float32`],
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
  const body = `<section>
<h2>What it holds</h2>
<dl class="facts wide">
${facts.map(([name, value]) => `<div><dt>${escape(name)}</dt><dd>${escape(value)}</dd></div>`).join('\n')}
</dl>
</section>
${spreadParts(summary)
  .map(({ title, html }) => `<section>\n<h2>${escape(title)}</h2>\n${html}\n</section>`)
  .join('\n')}
<section>
<h2>Bytes of a row</h2>
<table><thead><tr><th scope="col">spent on</th><th scope="col">bytes</th></tr></thead><tbody>
${parts.map(([name, bytes]) => `<tr><th scope="row">${name}</th><td data-label="bytes">${bytes.toFixed(2)}</td></tr>`).join('\n')}
</tbody></table>
</section>`;
  return pageHtml({ title: folder, kicker: 'limbeck inspect', body, charts: { ...noCharts, histograms: keptHistograms(summary) } });
}
