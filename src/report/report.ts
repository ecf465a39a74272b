// Writes a run as one self-contained page: words, table, charts, digits; no network.
import type { GalleryItem, Results } from '../distill/results.js';
import { count, tableColumns, size } from '../distill/results.js';
import { spreadsOf } from '../cache/summary.js';
import { chartData, type ChartData, type CurveMark } from './chart-data.js';
import { escape, numbersTable, pageHtml, plot } from './page.js';
import { greyPng } from './png.js';
import { spreadParts } from './spreads.js';

/** The page of a run. */
export async function reportPage(results: Results): Promise<string> {
  const { recipe } = results;
  const charts = chartData(results);
  return pageHtml({
    title: recipe.title ?? recipe.name,
    kicker: `limbeck distill · ${recipe.name}`,
    lead: recipe.description ? escape(recipe.description) : undefined,
    body: body(results, charts),
    charts,
  });
}

function body(results: Results, charts: ChartData): string {
  const { recipe, machine } = results;
  const hasModels = results.models.length > 0;
  return `${checksSection(results)}
${
  results.findings.length === 0
    ? ''
    : `<section>
<h2>What the numbers show</h2>
<ul class="findings">
${results.findings.map((text) => `<li>${escape(text).replaceAll(' %', '&nbsp;%')}</li>`).join('\n')}
</ul>
</section>`
}
${hasModels ? modelSections(results, charts) : ''}
${probesSection(results)}
${gallery(results)}
<section>
<h2>How it was made</h2>
<dl class="facts">
${facts(results)
  .map(([name, value]) => `<div><dt>${escape(name)}</dt><dd>${escape(value)}</dd></div>`)
  .join('\n')}
</dl>
<details><summary>The recipe</summary><pre tabindex="0">${escape(JSON.stringify(recipe, null, 2))}</pre></details>
<p class="note">limbeck ${escape(machine.limbeck)}. All numbers are in results.json beside this page.</p>
</section>`;
}

/** The pass rule with its numbers. */
function checksSection({ checks = [], recipe }: Results): string {
  if (checks.length === 0) return '';
  const kept = checks.filter(({ passed }) => passed).length;
  const about = [
    recipe.paper ? `${escape(recipe.paper.title)}${recipe.paper.id === undefined ? '' : `, ${escape(recipe.paper.id)}`}.` : '',
    recipe.shows === undefined ? '' : escape(recipe.shows),
  ].filter((text) => text !== '');
  const row = ({ passed, says, text }: (typeof checks)[number]): string =>
    `<tr><th scope="row">${escape(says)}</th><td data-label="holds" class="${passed ? 'right' : 'wrong'}">${passed ? '✓ yes' : '✗ no'}</td><td data-label="numbers">${escape(text)}</td></tr>`;
  return `<section>
<h2>Checks <small>${kept} of ${checks.length} hold</small></h2>
${about.length > 0 ? `<p class="note">${about.join(' ')}</p>` : ''}
<table class="checks"><thead><tr><th scope="col">what must hold</th><th scope="col">holds</th><th scope="col">numbers</th></tr></thead><tbody>${checks.map(row).join('')}</tbody></table>
</section>`;
}

/** What probes found: values and plots. */
function probesSection({ probes = [] }: Results): string {
  if (probes.length === 0) return '';
  let index = 0;
  const shown = probes.map(({ title, values, series }) => {
    const entries = Object.entries(values).map(([name, value]) => [name, String(Number(value.toPrecision(6)))]);
    const plots = series.map((each) => {
      const label = each.title;
      return `<div><figure>${plot('plot', label, index++)}<figcaption>${escape(label)}</figcaption></figure>
${numbersTable(
  label,
  [each.x.label, ...each.lines.map(({ name }) => name)],
  each.x.values.map((x, i) => [
    String(Number(x.toPrecision(6))),
    ...each.lines.map(({ values: y }) => (y[i] === undefined ? '' : String(Number(y[i].toPrecision(6))))),
  ]),
)}</div>`;
    });
    return `<h3>${escape(title)}</h3>
${plots.length === 0 ? '' : `<div class="pair">\n${plots.join('\n')}\n</div>`}
${numbersTable(`values of ${title}`, ['value', 'is'], entries)}`;
  });
  return `<section>\n<h2>Exact experiments</h2>\n${shown.join('\n')}\n</section>`;
}

/** Table and plots of the models. */
function modelSections(results: Results, charts: ChartData): string {
  const { recipe } = results;
  const hasPruning = charts.sparsity.length > 0;
  const hasDigits = recipe.data.format === 'mnist';
  const tested = hasDigits ? 'test digits' : 'test rows';
  return `<section>
<h2>The models</h2>
${tableHtml(results)}
<p class="note">Mean ± sample standard deviation over ${recipe.repeats === 1 ? 'one seed' : `${recipe.repeats} seeds`} for the students. ECE: expected calibration error in 15 bins. Agreement: share of the ${tested} on which a model chooses the teacher's class.${results.table.some((row) => row.klToTeacher) ? ' KL: mean of KL(teacher ‖ model), in nats.' : ''}${hasPruning ? ' Seconds of a pruned model are those of its own level.' : ''}</p>
</section>
${domainsSection(results)}
${keptSection(results)}
${
  charts.generations.length === 0
    ? ''
    : `<section>
<h2>Generations</h2>
${legend(charts, charts.generations)}
<figure>${plot('generations', 'KL to the teacher by generation')}<figcaption>KL divergence to the teacher after each generation (log scale); the band spans the seeds. Generation 0 is what the first one learnt from.</figcaption></figure>
${numbersTable(
  'KL to the teacher by generation',
  ['recursion', 'generation', 'mean', 'lowest', 'highest'],
  charts.generations.map((m) => [m.series, String(m.epoch), ...[m.mean, m.low, m.high].map((value) => value.toPrecision(4))]),
)}
</section>`
}
<section>
<h2>Loss by stage</h2>
<p class="note">What each stage trains by, the stages one after another: a loss from labels and one from targets are on one axis, and not the same measure.</p>
${legend(charts, charts.loss)}
<figure>${plot('loss', 'Training loss by stage')}<figcaption>Mean training loss of each epoch (log scale); the band spans the seeds. A numbered line is where a stage begins: ${charts.starts.map(({ number, title }) => `${number} ${escape(title)}`).join('; ')}.</figcaption></figure>
${curveTable('training loss by stage', charts.loss, 4)}
</section>
<section>
<h2>Learning curves</h2>
${legend(charts, charts.error)}
<div class="pair">
<div><figure>${plot('error', 'Test errors')}<figcaption>Errors on the ${tested} after each epoch (log scale); the band spans the seeds.</figcaption></figure>
${curveTable('test errors, %', charts.error, 2)}</div>
<div><figure>${plot('nll', 'Test negative log-likelihood')}<figcaption>Negative log-likelihood of the true class on the ${tested} (log scale).</figcaption></figure>
${curveTable('test NLL', charts.nll, 4)}</div>
</div>
</section>
${
  hasPruning
    ? `<section>
<h2>Accuracy against sparsity</h2>
${legend(charts, charts.sparsity)}
<div class="pair">
<div><figure>${plot('sparsity', 'Accuracy against sparsity')}<figcaption>Each point is the mean over the seeds, its bar spans them. Dashed: models that are not pruned.</figcaption></figure>
${numbersTable(
  'accuracy against sparsity, %',
  ['model', 'zero', 'accuracy', 'lowest', 'highest'],
  charts.sparsity.map((m) => [m.series, m.sparsity.toFixed(1), ...[m.mean, m.low, m.high].map((v) => v.toFixed(2))]),
)}</div>
<div><figure>${plot('pruning', 'Test errors while pruning')}<figcaption>Errors on the ${tested} while pruning and distilling, epochs counted from the first cut (log scale).</figcaption></figure>
${curveTable('test errors while pruning, %', charts.pruning, 2)}</div>
</div>
</section>`
    : ''
}
<section>
<h2>Reliability</h2>
<p class="note">How often an answer is right, by how sure the model is of it; on the dashed line the two are equal. Larger dots hold more answers.</p>
<div class="grid">
${charts.reliability.map((r, i) => `<figure><h3>${escape(r.title)} <small>ECE ${(100 * r.ece).toFixed(2)} %</small></h3>${plot('reliability', `Reliability of ${r.title}`, i)}</figure>`).join('\n')}
</div>
${numbersTable(
  'reliability',
  ['model', 'confidence', 'right', 'answers'],
  charts.reliability.flatMap((r) => r.bins.map((bin) => [r.title, bin.confidence.toFixed(3), bin.accuracy.toFixed(3), count(bin.count)])),
)}
</section>`;
}

/** What each file of captured targets keeps. */
/** What each model does in each domain, where a stage draws by them: means over the seeds. */
function domainsSection({ models, table }: Results): string {
  const names = [...new Set(models.flatMap(({ domains }) => Object.keys(domains ?? {})))];
  if (names.length === 0) return '';
  const rows = table.map(({ title, stage, level }) => {
    const own = models.filter((model) => model.stage === stage && model.level === level);
    const mean = (values: (number | undefined)[]): string =>
      values.includes(undefined) ? '—' : (values.reduce<number>((sum, value) => sum + value!, 0) / values.length).toFixed(4);
    const cells = names.flatMap((name) => [
      mean(own.map(({ domains }) => domains?.[name]?.nll)),
      mean(own.map(({ domains }) => domains?.[name]?.klToTeacher)),
      mean(own.map(({ numbers }) => numbers?.[`domain.${name}`])),
    ]);
    return `<tr><th scope="row">${escape(title)}</th>${cells.map((text) => `<td>${text}</td>`).join('')}</tr>`;
  });
  const head = names.flatMap((name) => [`${name}: NLL`, `${name}: KL to teacher`, `${name}: last weight`]);
  return `<section>
<h2>By domain</h2>
<div class="scroll" tabindex="0" role="region" aria-label="By domain"><table class="numbers"><thead><tr>${['model', ...head].map((text) => `<th scope="col">${escape(text)}</th>`).join('')}</tr></thead><tbody>${rows.join('')}</tbody></table></div>
<p class="note">On the test rows of each domain; means over the seeds. The last weight is the share of rows drawn from the domain at the end of a stage that draws by domains.</p>
</section>`;
}

function keptSection({ captures }: Results): string {
  let first = 0;
  const shown = captures.flatMap(({ file, kept, k, cols, rows, meanTail }) => {
    if (kept === undefined) return [];
    // Recipes keep k of every row, so that the entries say nothing.
    const parts = spreadParts(kept, first).slice(0, 2);
    first += spreadsOf(kept).length;
    return `<h3>${escape(file)} <small>${k} of ${count(cols)} classes for ${count(rows)} rows; ${(100 * meanTail).toPrecision(2)} % of the mass in the tail</small></h3>
<div class="pair">
${parts.map(({ title, html }) => `<div><h4>${escape(title)}</h4>${html}</div>`).join('\n')}
</div>`;
  });
  return shown.length === 0 ? '' : `<section>\n<h2>What the sparse target keeps</h2>\n${shown.join('\n')}\n</section>`;
}

function legend(charts: ChartData, marks: readonly { series: string }[]): string {
  const shown = charts.series.filter((series) => marks.some((m) => m.series === series));
  const entries = shown.map(
    (series) => `<li><span data-chart="key" data-index="${charts.series.indexOf(series)}" aria-hidden="true"></span>${escape(series)}</li>`,
  );
  return `<ul class="legend">${entries.join('')}</ul>`;
}

function curveTable(of: string, marks: readonly CurveMark[], digits: number): string {
  return numbersTable(
    of,
    ['model', 'epoch', 'mean', 'lowest', 'highest'],
    marks.map((m) => [m.series, String(m.epoch), ...[m.mean, m.low, m.high].map((value) => value.toFixed(digits))]),
  );
}

function tableHtml(results: Results): string {
  const columns = tableColumns(results.table);
  const head = columns.map((c) => `<th scope="col">${escape(c.title)}</th>`).join('');
  const body = results.table.map((row) => {
    const cells = columns.map((c, i) => {
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
  return `<section><h2>Digits that they see differently</h2><p class="note">From the first seed; the surest answers come first. Each answer, right (✓) or wrong (✗), with its probability.</p>${shown.join('\n')}</section>`;
}

function digit(item: GalleryItem): string {
  const png = greyPng(Buffer.from(item.pixels, 'base64'), item.width, item.height).toString('base64');
  const views = item.views.map(
    (view) =>
      `<tr class="${view.predicted === item.label ? 'right' : 'wrong'}"><td>${escape(view.title)}</td><td>${view.predicted === item.label ? '✓' : '✗'} ${view.predicted}</td><td>${Math.round(view.probability * 100)} %</td></tr>`,
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
    ...(results.facts ??
      (results.trainRows > 0
        ? [['Data', `${count(results.trainRows)} training and ${count(results.testRows)} test rows`] as [string, string]]
        : [])),
    ['Seeds', `${recipe.seed}${recipe.repeats > 1 ? ` to ${recipe.seed + recipe.repeats - 1}` : ''}`],
    ...captures.map((c): [string, string] => [
      'Targets',
      `${c.file}, ${size(c.bytes)}, ${c.k} of ${c.cols} classes at temperature ${c.temperature}${c.moves ? `, ${c.moves.views} ${c.moves.views === 1 ? 'view' : 'views'} of each image, moved by up to ${c.moves.shift} pixels` : ''}`,
    ]),
    ['Time', `${results.seconds.toFixed(0)} s`],
  ];
}
