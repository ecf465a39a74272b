// Writes a run as one self-contained page: words, table, charts, digits; no network.
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { GalleryItem, Results } from '../distill/results.js';
import { count, tableColumns } from '../distill/results.js';
import { LimbeckError } from '../errors.js';
import { chartData, type ChartData } from './chart-data.js';
import { greyPng } from './png.js';

/** The page of a run. */
export async function reportPage(results: Results): Promise<string> {
  return page(results, chartData(results), await clientScript());
}

// Beside this code in dist/, or in dist/ of the clone when the sources run as they are.
export async function clientScript(): Promise<string> {
  let folder = dirname(fileURLToPath(import.meta.url));
  for (let up = 0; up < 5; up++) {
    for (const place of [join(folder, 'report-client.js'), join(folder, 'dist', 'report-client.js')]) {
      if (existsSync(place)) return readFile(place, 'utf8');
    }
    folder = dirname(folder);
  }
  throw new LimbeckError(
    'not_built',
    'Cannot write the report: its script dist/report-client.js must be built: it is not there (npm run build)',
  );
}

export function escape(text: string): string {
  return text.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]!);
}

// A script element ends at the first "</script": neither JSON nor code may hold one.
export function inlineJson(value: unknown): string {
  return JSON.stringify(value).replaceAll('<', '\\u003c');
}

export const inlineScript = (code: string) => code.replace(/<\/(script)/gi, '<\\/$1').replaceAll('<!--', '<\\!--');

function page(results: Results, charts: ChartData, script: string): string {
  const { recipe, machine } = results;
  const title = recipe.title ?? recipe.name;
  const hasPruning = charts.sparsity.length > 0;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<title>${escape(title)}</title>
<style>${STYLE}</style>
</head>
<body>
<main>
<header>
<p class="kicker">limbeck distill · ${escape(recipe.name)}</p>
<h1>${escape(title)}</h1>
${recipe.description ? `<p class="lead">${escape(recipe.description)}</p>` : ''}
</header>
<section>
<h2>What the numbers show</h2>
<ul class="findings">
${results.findings.map((text) => `<li>${escape(text).replaceAll(' %', '&nbsp;%')}</li>`).join('\n')}
</ul>
</section>
<section>
<h2>The models</h2>
${tableHtml(results)}
<p class="note">Mean ± sample standard deviation over ${recipe.repeats === 1 ? 'one seed' : `${recipe.repeats} seeds`} for the students. ECE: expected calibration error in 15 bins. Agreement: share of the test digits on which a model chooses the teacher's class.${hasPruning ? ' Seconds of a pruned model are those of its own level.' : ''}</p>
</section>
<section>
<h2>Learning curves</h2>
${legend(charts, charts.error)}
<div class="pair">
<figure><div data-chart="error"></div><figcaption>Errors on the test digits after each epoch (log scale); the band spans the seeds.</figcaption></figure>
<figure><div data-chart="nll"></div><figcaption>Negative log-likelihood of the true class on the test digits (log scale).</figcaption></figure>
</div>
</section>
${
  hasPruning
    ? `<section>
<h2>Accuracy against sparsity</h2>
${legend(charts, charts.sparsity)}
<div class="pair">
<figure><div data-chart="sparsity"></div><figcaption>Each point is the mean over the seeds, its bar spans them. Dashed: models that are not pruned.</figcaption></figure>
<figure><div data-chart="pruning"></div><figcaption>Errors on the test digits while pruning and distilling, epochs counted from the first cut (log scale).</figcaption></figure>
</div>
</section>`
    : ''
}
<section>
<h2>Reliability</h2>
<p class="note">How often an answer is right, by how sure the model is of it; on the dashed line the two are equal. Larger dots hold more answers.</p>
<div class="grid">
${charts.reliability.map((r, i) => `<figure><h3>${escape(r.title)} <small>ECE ${(100 * r.ece).toFixed(2)} %</small></h3><div data-chart="reliability" data-index="${i}"></div></figure>`).join('\n')}
</div>
</section>
${gallery(results)}
<section>
<h2>How it was made</h2>
<dl class="facts">
${facts(results)
  .map(([name, value]) => `<div><dt>${escape(name)}</dt><dd>${escape(value)}</dd></div>`)
  .join('\n')}
</dl>
<details><summary>The recipe</summary><pre>${escape(JSON.stringify(recipe, null, 2))}</pre></details>
<p class="note">limbeck ${escape(machine.limbeck)}. All numbers are in results.json beside this page.</p>
</section>
</main>
<noscript><p class="note">The charts need JavaScript; words, table and digits do not.</p></noscript>
<script type="application/json" id="chart-data">${inlineJson(charts)}</script>
<script>${inlineScript(script)}</script>
</body>
</html>
`;
}

const palette = ['#6b7280', '#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9'];

function legend(charts: ChartData, marks: readonly { series: string }[]): string {
  const shown = charts.series.filter((series) => marks.some((m) => m.series === series));
  const entries = shown.map(
    (series) => `<li><i style="background:${palette[charts.series.indexOf(series) % palette.length]}"></i>${escape(series)}</li>`,
  );
  return `<ul class="legend">${entries.join('')}</ul>`;
}

function tableHtml(results: Results): string {
  const head = tableColumns.map((c) => `<th scope="col">${escape(c.title)}</th>`).join('');
  const body = results.table.map((row) => {
    const cells = tableColumns.map((c, i) => {
      const text = escape(c.text(row)) || '—';
      return i === 0 ? `<th scope="row">${text}</th>` : `<td data-label="${escape(c.title)}">${text}</td>`;
    });
    return `<tr>${cells.join('')}</tr>`;
  });
  return `<table><thead><tr>${head}</tr></thead><tbody>${body.join('')}</tbody></table>`;
}

function gallery(results: Results): string {
  const groups = results.gallery.filter((group) => group.items.length > 0);
  if (groups.length === 0) return '';
  const shown = groups.map(
    (group) =>
      `<h3>${escape(group.title)} <small>${count(group.count)} of ${count(results.testRows)}</small></h3><div class="digits">${group.items.map(digit).join('')}</div>`,
  );
  return `<section><h2>Digits that they see differently</h2><p class="note">From the first seed; the surest answers come first. Each answer with its probability.</p>${shown.join('\n')}</section>`;
}

function digit(item: GalleryItem): string {
  const png = greyPng(Buffer.from(item.pixels, 'base64'), item.width, item.height).toString('base64');
  const views = item.views.map(
    (view) =>
      `<tr class="${view.predicted === item.label ? 'right' : 'wrong'}"><td>${escape(view.title)}</td><td>${view.predicted}</td><td>${Math.round(view.probability * 100)} %</td></tr>`,
  );
  return `<figure class="digit"><img src="data:image/png;base64,${png}" width="84" height="84" alt="a handwritten ${item.label}"><figcaption>test row ${item.row}, a ${item.label}</figcaption><table>${views.join('')}</table></figure>`;
}

function facts(results: Results): [string, string][] {
  const { machine, recipe, captures } = results;
  return [
    ['Device', `${machine.device} (${machine.deviceReason}): ${machine.deviceName}`],
    [
      'CPU code',
      `${machine.instructionSet}, ${machine.threads} thread${machine.threads === 1 ? '' : 's'}, matrix products by ${machine.matrixProduct}`,
    ],
    ['Software', `limbeck ${machine.limbeck}, Node ${machine.node}, ${machine.platform}`],
    ['Data', `${count(results.trainRows)} training and ${count(results.testRows)} test rows`],
    ['Seeds', `${recipe.seed}${recipe.repeats > 1 ? ` to ${recipe.seed + recipe.repeats - 1}` : ''}`],
    ...captures.map((c): [string, string] => [
      'Targets',
      `${c.file}, ${(c.bytes / 1e6).toFixed(2)} MB, ${c.k} of ${c.cols} classes at temperature ${c.temperature}`,
    ]),
    ['Time', `${results.seconds.toFixed(0)} s`],
  ];
}

export const STYLE = `
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --line: #d8dee4; --surface: #ffffff; --wash: #f4f6f8; --right: #00734f; --wrong: #b3400a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #a0a8b2; --line: #3a4149; --surface: #16191d; --wash: #1f242a; --right: #4cc79a; --wrong: #f0936b; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--surface); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif; -webkit-text-size-adjust: 100%; }
main { max-width: 1080px; margin: 0 auto; padding: 24px 16px 48px; }
.kicker { margin: 0; color: var(--soft); font-size: 14px; }
h1 { margin: 4px 0 8px; font-size: clamp(24px, 5vw, 34px); line-height: 1.2; text-wrap: balance; }
h2 { margin: 40px 0 12px; font-size: 21px; }
h3 { margin: 16px 0 6px; font-size: 15px; }
h3 small { font-weight: 400; color: var(--soft); margin-left: 4px; }
.lead { margin: 0; max-width: 70ch; color: var(--soft); }
.note { margin: 8px 0; max-width: 80ch; color: var(--soft); font-size: 14px; }
.findings { max-width: 78ch; margin: 0; padding-left: 20px; }
.findings li { margin: 6px 0; }
section > table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
section > table th, section > table td { padding: 7px 8px; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
section > table th:first-child { text-align: left; white-space: normal; }
section > table thead th { color: var(--soft); font-weight: 600; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; list-style: none; margin: 0 0 8px; padding: 0; font-size: 14px; }
.legend i { display: inline-block; width: 14px; height: 4px; border-radius: 2px; margin-right: 7px; vertical-align: middle; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 24px; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 260px), 1fr)); gap: 16px 24px; }
figure { margin: 0; min-width: 0; }
figcaption { color: var(--soft); font-size: 13px; }
[data-chart] { min-height: 240px; }
.digits { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 220px), 1fr)); gap: 12px; }
.digit { background: var(--wash); border-radius: 8px; padding: 10px; }
.digit img { image-rendering: pixelated; display: block; border-radius: 4px; margin: 0 auto 4px; }
.digit figcaption { text-align: center; }
.digit table { width: 100%; border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
.digit td { padding: 1px 0; vertical-align: top; }
.digit td:nth-child(n + 2) { text-align: right; padding-left: 8px; white-space: nowrap; font-weight: 600; }
.right td:nth-child(2) { color: var(--right); }
.wrong td:nth-child(2) { color: var(--wrong); }
.facts { margin: 0; font-size: 14px; }
.facts div { display: flex; gap: 12px; padding: 4px 0; border-bottom: 1px solid var(--line); }
.facts dt { flex: 0 0 84px; color: var(--soft); }
.facts dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
details { margin-top: 14px; font-size: 14px; }
pre { overflow-x: auto; background: var(--wash); padding: 12px; border-radius: 8px; font-size: 12px; }
@media (max-width: 720px) {
  .grid { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 12px; }
  .grid h3 small { display: block; margin: 0; }
  .digits { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 8px; }
  .digit { padding: 8px; }
  .digit table { font-size: 12px; line-height: 1.35; }
  [data-chart] { min-height: 150px; }
  section > table thead { position: absolute; clip-path: inset(50%); width: 1px; height: 1px; overflow: hidden; }
  section > table, section > table tbody, section > table tr { display: block; }
  section > table tr { display: grid; grid-template-columns: repeat(3, auto); justify-content: space-between; gap: 6px 10px; padding: 10px 0; border-bottom: 1px solid var(--line); font-size: 13px; }
  section > table tbody th { grid-column: 1 / -1; padding: 0; border: 0; font-size: 14px; }
  section > table td { min-width: 80px; padding: 0; border: 0; text-align: left; line-height: 1.3; }
  section > table td::before { content: attr(data-label); display: block; color: var(--soft); font-size: 12px; }
}
`;
