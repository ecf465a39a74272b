// What every page is made of: its shell in one self-contained file, its style, and the tables behind its plots.
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { LimbeckError } from '../errors.js';
import type { ChartData } from './chart-data.js';

/** The parts of a page. All but the words of `title` and `kicker` are HTML already. */
export interface PageParts {
  title: string;
  /** A line above the heading: what made the page. */
  kicker: string;
  lead?: string;
  /** Sections. */
  body: string;
  charts: ChartData;
}

/** A whole page. */
export async function pageHtml({ title, kicker, lead, body, charts }: PageParts): Promise<string> {
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
<a class="skip" href="#main">Skip to the contents</a>
<main>
<header>
<p class="kicker">${escape(kicker)}</p>
<h1>${escape(title)}</h1>
${lead === undefined ? '' : `<p class="lead">${lead}</p>`}
</header>
<div id="main" tabindex="-1">
${body}
</div>
</main>
<noscript><p class="note">The plots need JavaScript; words and tables do not.</p></noscript>
<script type="application/json" id="chart-data">${inlineJson(charts)}</script>
<script>${inlineScript(await clientScript())}</script>
</body>
</html>
`;
}

/** The place of a plot: `kind` is one of client.ts's, `index` which of them. */
export const plot = (kind: string, label: string, index?: number): string =>
  `<div data-chart="${kind}" role="group" aria-label="${escape(label)}"${index === undefined ? '' : ` data-index="${index}"`}></div>`;

/** The table behind a plot, folded away. The first cell of a row names it. */
export function numbersTable(of: string, head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = ([first, ...rest]: readonly string[]): string =>
    `<tr><th scope="row">${escape(first!)}</th>${rest.map((text) => `<td>${escape(text)}</td>`).join('')}</tr>`;
  const columns = head.map((text) => `<th scope="col">${escape(text)}</th>`).join('');
  return `<details><summary>The numbers: ${escape(of)}</summary><div class="scroll" tabindex="0" role="region" aria-label="${escape(of)}"><table class="numbers"><thead><tr>${columns}</tr></thead><tbody>${rows.map(cells).join('')}</tbody></table></div></details>`;
}

// Beside this code in dist/, or in dist/ of the clone when the sources run as they are.
async function clientScript(): Promise<string> {
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
function inlineJson(value: unknown): string {
  return JSON.stringify(value).replaceAll('<', '\\u003c');
}

const inlineScript = (code: string) => code.replace(/<\/(script)/gi, '<\\/$1').replaceAll('<!--', '<\\!--');

const STYLE = `
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --line: #d8dee4; --surface: #ffffff; --wash: #f4f6f8; --right: #00734f; --wrong: #b3400a; --focus: #0b57d0; --v1: #dce9f5; --v2: #a6cbe5; --v3: #5ba3d0; --v4: #08306b; --ink1: #1b1f24; --ink2: #1b1f24; --ink3: #10151a; --ink4: #ffffff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #a0a8b2; --line: #3a4149; --surface: #16191d; --wash: #1f242a; --right: #4cc79a; --wrong: #f0936b; --focus: #ffd166; --v1: #1f3346; --v2: #2f5578; --v3: #7db8de; --v4: #e8f2fb; --ink1: #e6e8eb; --ink2: #f2f4f6; --ink3: #10151a; --ink4: #10151a; } }
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
section > table.checks td { white-space: normal; text-align: left; } .checks .right { color: var(--right); } .checks .wrong { color: var(--wrong); font-weight: 600; }
section > table thead th { color: var(--soft); font-weight: 600; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; list-style: none; margin: 0 0 8px; padding: 0; font-size: 14px; }
.legend [data-chart] { display: inline-block; width: 34px; min-height: 0; height: 14px; margin-right: 7px; vertical-align: middle; }
.legend li { white-space: nowrap; }
.pair > * { min-width: 0; }
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
summary { cursor: pointer; }
.wide dt { flex-basis: 104px; }
h4 { margin: 8px 0 4px; font-size: 14px; }
.scroll { overflow: auto; max-height: 420px; margin-top: 8px; }
.numbers { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
.numbers th, .numbers td { padding: 3px 14px 3px 0; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
.numbers th:first-child { text-align: left; font-weight: 400; }
.numbers thead th { color: var(--soft); font-weight: 600; }
.detail { position: sticky; top: 0; margin: 8px 0; padding: 8px 12px; min-height: 2.9em; background: var(--wash); border-bottom: 2px solid var(--line); font-size: 14px; overflow-wrap: anywhere; z-index: 2; }
.tokens { contain: layout; white-space: pre-wrap; overflow-wrap: anywhere; font-size: 16px; line-height: 2.1; }
.tokens span { cursor: default; scroll-margin: 90px 0 40px; }
.tokens span:focus-visible, .tokens span:target { outline: 3px solid var(--focus); outline-offset: 1px; position: relative; z-index: 1; }
.tokens span:hover { outline: 2px solid var(--soft); }
.v0, .v1, .v2, .v3, .v4 { padding: 2px 0; border-radius: 2px; -webkit-box-decoration-break: clone; box-decoration-break: clone; box-shadow: inset 0 calc(-1px * var(--bar)) var(--rule); }
.v0 { --bar: 0; }
.v1 { --bar: 1; background: var(--v1); color: var(--ink1); --rule: var(--ink1); }
.v2 { --bar: 2; background: var(--v2); color: var(--ink2); --rule: var(--ink2); }
.v3 { --bar: 3; background: var(--v3); color: var(--ink3); --rule: var(--ink3); }
.v4 { --bar: 4; background: var(--v4); color: var(--ink4); --rule: var(--ink4); }
.differ { text-decoration: overline dotted 2px; }
.scale { margin-top: 12px; }
.scale b { font-weight: 400; padding: 2px 6px; margin-right: 7px; }
.note:has(#numbers:checked) ~ .tokens span::after { content: attr(data-v); font-size: 11px; margin: 0 3px; vertical-align: super; line-height: 1; }
.numbers a { color: inherit; }
.skip { position: absolute; left: 8px; top: -60px; padding: 8px 12px; background: var(--ink); color: var(--surface); border-radius: 0 0 6px 6px; z-index: 3; }
.skip:focus { top: 0; }
:focus-visible { outline: 3px solid var(--focus); outline-offset: 2px; }
#main:focus { outline: none; }
[data-chart] :focus { outline: none; }
[data-chart] :focus-visible { outline: 3px solid var(--focus); outline-offset: 3px; }
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
