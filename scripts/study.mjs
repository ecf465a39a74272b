// The numbers behind docs/studies: `node scripts/study.mjs keep <run folder>` writes what a page needs of a run to bench/results/recipes,
// `node scripts/study.mjs draw` draws docs/figures/<recipe>-<metric>.svg from there and writes the page's table.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { root } from './counts.mjs';

const kept = path.join(root, 'bench/results/recipes');
const metrics = ['accuracy', 'nll', 'perplexity', 'ece', 'brier', 'klToTeacher', 'bitsPerByte'];

/** What is drawn: one picture for each metric, a line of dots for each stage. */
const PICTURES = [
  {
    recipe: 'sampled-vs-topk',
    page: 'docs/studies/sampled-targets.md',
    /** Which capture a stage learns from. */
    captures: {
      drawn: 'drawn-targets',
      race: 'race-targets',
      'head-tail': 'head-tail-targets',
      'top-bucket': 'top-targets',
      'top-renormalised': 'top-targets',
    },
    stages: ['full', 'drawn', 'race', 'head-tail', 'top-bucket', 'top-renormalised', 'labels'],
    metrics: [
      { name: 'klToTeacher', label: 'KL to the teacher, nats a token (log scale)', isLog: true },
      { name: 'ece', label: 'calibration error, %', scale: 100 },
      { name: 'nll', label: 'loss on the test text, nats a token' },
    ],
  },
];

/** Numbers to five digits: the files are read by people too. */
const short = (value) => (typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(5)) : value);

function keep(folder) {
  const results = JSON.parse(readFileSync(path.join(folder, 'results.json'), 'utf8'));
  const { recipe, machine, models, captures, checks, facts } = results;
  const small = {
    recipe: recipe.name,
    size: recipe.size,
    machine: { device: machine.deviceName, instructionSet: machine.instructionSet, threads: machine.threads, node: machine.node },
    facts,
    seconds: Math.round(results.seconds),
    models: models.map((model) => ({
      stage: model.stage,
      title: model.title,
      ...(model.level === undefined ? {} : { level: model.level }),
      ...(model.once ? {} : { seed: model.seed }),
      parameters: model.parameters,
      nonZero: model.nonZero,
      seconds: short(model.seconds),
      ...Object.fromEntries(metrics.map((name) => [name, short(model.evaluation[name])])),
      agreement: short(model.agreement),
      ...(model.numbers ? { numbers: Object.fromEntries(Object.entries(model.numbers).map(([name, value]) => [name, short(value)])) } : {}),
    })),
    captures: captures.map(({ stage, k, sample, bytes, rows, bytesPerRow, meanTail, seconds }) => ({
      stage,
      k,
      sample,
      bytes,
      rows,
      bytesPerRow: short(bytesPerRow),
      meanTail: short(meanTail),
      seconds: short(seconds),
    })),
    checks: (checks ?? []).map(({ says, passed, text }) => ({ says, passed, text })),
  };
  mkdirSync(kept, { recursive: true });
  const file = path.join(kept, `${recipe.name}.json`);
  writeFileSync(file, `${JSON.stringify(small, null, 1)}\n`);
  console.log(path.relative(root, file));
}

const escape = (text) => text.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]);

/** About five round numbers from low to high; for a log scale 1, 2 and 5 of each decade. */
function ticksOf(low, high, isLog) {
  const ticks = [];
  if (isLog) {
    for (let decade = Math.floor(Math.log10(low)); decade <= Math.log10(high); decade++)
      for (const step of [1, 2, 5]) if (step * 10 ** decade >= low && step * 10 ** decade <= high) ticks.push(step * 10 ** decade);
    return ticks;
  }
  const rough = (high - low) / 5;
  const decade = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * decade).find((each) => each >= rough);
  for (let tick = Math.ceil(low / step) * step; tick <= high + step / 1e6; tick += step) ticks.push(tick);
  return ticks;
}

/** A line of dots for each row, one for each seed, and a stroke at their mean. */
function strips(rows, { label, isLog = false, scale = 1 }) {
  const width = 680;
  const left = 190;
  const right = 70;
  const step = 30;
  const top = 12;
  const baseline = top + rows.length * step;
  const all = rows.flatMap((row) => row.values.map((value) => value * scale));
  const [least, most] = [Math.min(...all), Math.max(...all)];
  const margin = isLog ? 1.15 : (most - least) * 0.06 || 1;
  const [low, high] = isLog ? [least / margin, most * margin] : [least - margin, most + margin];
  const share = (value) => (isLog ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low));
  const across = (value) => (left + share(value) * (width - left - right)).toFixed(1);
  const words = (x, y, text, anchor = 'start') =>
    `<text x="${x}" y="${y}" font-family="sans-serif" font-size="13" fill="#6b7079" text-anchor="${anchor}">${escape(text)}</text>`;
  const digits = most < 1 ? 3 : most < 10 ? 2 : 1;
  const lines = rows.flatMap(({ title, values }, i) => {
    const y = top + (i + 0.5) * step;
    const mean = meanOf(values) * scale;
    return [
      `<path d="M${left} ${y}H${width - right}" stroke="#8a8f98" stroke-opacity="0.25"/>`,
      words(left - 10, y + 4, title, 'end'),
      ...values.map((value) => `<circle cx="${across(value * scale)}" cy="${y}" r="4" fill="#d9622b" fill-opacity="0.55"/>`),
      `<path d="M${across(mean)} ${y - 9}V${y + 9}" stroke="#d9622b" stroke-width="2.5"/>`,
      words(width - right + 12, y + 4, mean.toFixed(digits)),
    ];
  });
  const axis = ticksOf(low, high, isLog).flatMap((tick) => [
    `<path d="M${across(tick)} ${baseline}v5" stroke="#8a8f98"/>`,
    words(across(tick), baseline + 19, String(Number(tick.toPrecision(3))), 'middle'),
  ]);
  const height = baseline + 46;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">`,
    `<title>${escape(label)}: ${rows.map(({ title, values }) => escape(`${title} ${(meanOf(values) * scale).toFixed(digits)}`)).join(', ')}</title>`,
    ...lines,
    `<path d="M${left} ${baseline}H${width - right}" stroke="#8a8f98"/>`,
    ...axis,
    words((left + width - right) / 2, baseline + 38, label, 'middle'),
    '</svg>',
    '',
  ].join('\n');
}

const meanOf = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Mean and standard deviation over the seeds. */
function spread(values, digits, scale = 1) {
  const mean = meanOf(values);
  const deviation = values.length < 2 ? 0 : Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1));
  const text = (mean * scale).toFixed(digits);
  return values.length < 2 ? text : `${text} ± ${(deviation * scale).toFixed(digits)}`;
}

/** The numbers of a page, between two comments in it. */
function writeTable({ recipe, page, stages, captures = {} }, results) {
  const { models, captures: files, checks, facts, machine, seconds, size } = results;
  const own = (stage) => models.filter((model) => model.stage === stage);
  const rows = stages.map((stage) => {
    const each = own(stage);
    const file = files.find((capture) => capture.stage === captures[stage]);
    return [
      each[0].title,
      file ? file.bytesPerRow.toFixed(1) : '–',
      spread(
        each.map((model) => model.klToTeacher),
        3,
      ),
      spread(
        each.map((model) => model.agreement),
        1,
        100,
      ),
      spread(
        each.map((model) => model.nll),
        3,
      ),
      spread(
        each.map((model) => model.ece),
        2,
        100,
      ),
    ];
  });
  const [teacher] = own('teacher');
  const head = ['student learns from', 'bytes a token', 'KL to the teacher', 'agreement %', 'NLL', 'ECE %'];
  const lines = [
    `${size === 'quick' ? 'Quick' : 'Full'} size, ${own(stages[0]).length} seeds, mean ± standard deviation; ${Math.round(seconds / 60)} minutes on ${machine.threads} threads (${machine.instructionSet}), other work beside it.`,
    `${facts.map(([name, value]) => `${name}: ${value}.`).join(' ')}`,
    `The teacher has ${teacher.parameters.toLocaleString('en-US')} parameters, NLL ${teacher.nll.toFixed(3)} and ECE ${(100 * teacher.ece).toFixed(2)} %; the students ${own(stages[0])[0].parameters.toLocaleString('en-US')}.`,
    '',
    `| ${head.join(' | ')} |`,
    `| ${head.map((_, i) => (i === 0 ? '---' : '---:')).join(' | ')} |`,
    ...rows.map((row) => `| ${row.join(' | ')} |`),
    '',
    'The checks of that run:',
    '',
    ...checks.map(({ says, passed, text }) => `- ${passed ? 'holds' : '**does not hold**'}: ${says} (${text.replaceAll('|', '/')})`),
  ];
  const file = path.join(root, page);
  const marks = [`<!-- numbers of ${recipe}: node scripts/study.mjs draw -->`, '<!-- end of the numbers -->'];
  const text = readFileSync(file, 'utf8');
  const [before, rest] = text.split(marks[0]);
  const after = rest?.split(marks[1])[1];
  if (after === undefined) throw new Error(`Cannot write ${page}: it must hold ${marks.join(' and ')}: it does not`);
  writeFileSync(file, `${before}${marks[0]}\n\n${lines.join('\n')}\n\n${marks[1]}${after}`);
  execFileSync('npx', ['prettier', '--write', '--log-level', 'warn', file], { cwd: root });
  console.log(page);
}

function draw() {
  for (const picture of PICTURES) {
    const { recipe, stages, metrics: wanted } = picture;
    const source = path.join(kept, `${recipe}.json`);
    if (!existsSync(source)) {
      console.log(`${recipe}: not run yet (limbeck distill ${recipe}, then node scripts/study.mjs keep runs/${recipe})`);
      continue;
    }
    const results = JSON.parse(readFileSync(source, 'utf8'));
    const { models } = results;
    for (const metric of wanted) {
      const rows = stages.map((stage) => {
        const own = models.filter((model) => model.stage === stage);
        if (own.length === 0) throw new Error(`Cannot draw ${recipe}: stage "${stage}" must have results: it has none`);
        return { title: own[0].title, values: own.map((model) => model[metric.name]) };
      });
      const file = path.join(root, `docs/figures/${recipe}-${metric.name}.svg`);
      writeFileSync(file, strips(rows, metric));
      console.log(path.relative(root, file));
    }
    writeTable(picture, results);
  }
}

const [command, folder] = process.argv.slice(2);
if (command === 'keep' && folder !== undefined) keep(folder);
else if (command === 'draw') draw();
else {
  console.error('node scripts/study.mjs keep <run folder> | draw');
  process.exitCode = 1;
}
