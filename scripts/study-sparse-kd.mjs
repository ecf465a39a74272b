// The numbers and pictures of docs/studies/sparse-kd.md: `node scripts/study-sparse-kd.mjs keep <run folder>` writes what the page needs of a
// full run of recipes/sparse-kd.json to bench/results/recipes/sparse-kd.json, `node scripts/study-sparse-kd.mjs draw` draws from there.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { root } from './counts.mjs';

const kept = path.join(root, 'bench/results/recipes/sparse-kd.json');
const short = (value) => Number(value.toPrecision(5));

function keep(folder) {
  const { recipe, machine, trainRows, testRows, seconds, models, spreads, probes, checks } = JSON.parse(
    readFileSync(path.join(folder, 'results.json'), 'utf8'),
  );
  const groups = new Map();
  for (const model of models) {
    const name = `${model.stage}/${model.level ?? ''}`;
    groups.set(name, [...(groups.get(name) ?? []), model]);
  }
  const small = {
    recipe: recipe.name,
    size: recipe.size,
    trainRows,
    testRows,
    machine: { device: machine.deviceName, instructionSet: machine.instructionSet, threads: machine.threads, node: machine.node },
    seconds: Math.round(seconds),
    stages: [...groups.values()].map((group) => {
      const [{ stage, level, title, sparsity, parameters, nonZero }] = group;
      const spread = spreads.find((each) => each.stage === stage && each.level === level);
      return {
        stage,
        level,
        title,
        sparsity: short(sparsity),
        parameters,
        nonZero,
        steps: group[0].steps,
        accuracy: group.map((each) => short(each.evaluation.accuracy)),
        klToTeacher: group
          .map((each) => each.evaluation.klToTeacher)
          .filter((value) => value !== undefined)
          .map(short),
        spread:
          spread && Object.fromEntries(['squaredBias', 'variance', 'klBias', 'klVariance'].map((name) => [name, short(spread[name])])),
      };
    }),
    probes: probes.map(({ stage, values }) => ({ stage, values })),
    checks: checks.map(({ says, passed, text }) => ({ says, passed, text })),
  };
  mkdirSync(path.dirname(kept), { recursive: true });
  writeFileSync(kept, `${JSON.stringify(small, null, 1)}\n`);
  console.log(path.relative(root, kept));
}

// ---- pictures

const grey = '#8a8f98';
const words = '#6b7079';
const colors = ['#d9622b', '#2f6fb3', '#3f8f5b', '#8d5aa8', '#b8952c'];
const size = { width: 700, height: 340, left: 62, right: 214, top: 14, bottom: 48 };
const escape = (text) => text.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]);
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

const label = (x, y, text, { anchor = 'start', color = words, turn = '' } = {}) =>
  `<text x="${x}" y="${y}" font-family="sans-serif" font-size="13" fill="${color}" text-anchor="${anchor}"${turn}>${escape(text)}</text>`;

function frame(title, body, { xTicks, xLabel, yLabel, yMost, yStep, across, up }) {
  const { width, height, left, right, top, bottom } = size;
  const baseline = height - bottom;
  const yTicks = Array.from({ length: Math.floor(yMost / yStep + 1e-9) + 1 }, (_, i) => i * yStep);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">`,
    `<title>${escape(title)}</title>`,
    ...yTicks.flatMap((tick) => [
      `<path d="M${left} ${up(tick)}H${width - right}" stroke="${grey}" stroke-opacity="${tick === 0 ? 1 : 0.25}"/>`,
      label(left - 8, Number(up(tick)) + 4, String(Number(tick.toPrecision(3))), { anchor: 'end' }),
    ]),
    ...xTicks.flatMap(([x, text]) => [
      `<path d="M${across(x)} ${baseline}v5" stroke="${grey}"/>`,
      label(across(x), baseline + 19, text, { anchor: 'middle' }),
    ]),
    label((left + width - right) / 2, height - 8, xLabel, { anchor: 'middle' }),
    label(14, (top + baseline) / 2, yLabel, { anchor: 'middle', turn: ` transform="rotate(-90 14 ${(top + baseline) / 2})"` }),
    ...body,
    '</svg>',
    '',
  ].join('\n');
}

const upTo = (most) => (value) => (size.height - size.bottom - (value / most) * (size.height - size.top - size.bottom)).toFixed(1);
const onLog = (low, high) => (value) =>
  (size.left + 20 + (Math.log(value / low) / Math.log(high / low)) * (size.width - size.left - size.right - 40)).toFixed(1);

const legend = (entries) =>
  entries.flatMap(({ title, color, dash }, i) => {
    const [x, y] = [size.width - size.right + 14, size.top + 16 + 21 * i];
    const dashed = dash ? ' stroke-dasharray="5 4"' : '';
    return [`<path d="M${x} ${y - 4}h20" stroke="${color}" stroke-width="2.5"${dashed}/>`, label(x + 27, y, title)];
  });

const line = (points, color, dash = false) =>
  `<path d="M${points.join('L')}" fill="none" stroke="${color}" stroke-width="2"${dash ? ' stroke-dasharray="5 4"' : ''}/>`;

/** The error of the last level against the number of stages, three ways, next to C/n. */
function stagesPicture({ stages }) {
  const last = (stage) => stages.filter((each) => each.stage === stage).at(-1).klToTeacher;
  const lines = [
    { title: 'equal shares, same steps', names: { 1: 'stages-1', 2: 'stages-2', 4: 'stages-4', 8: 'stages-8', 16: 'stages-16' } },
    { title: 'equal cuts, same steps', names: { 1: 'stages-1', 2: 'equal-steps-2', 4: 'equal-steps-4', 8: 'equal-steps-8' } },
    { title: 'equal shares, 2 epochs each', names: { 1: 'longer-1', 2: 'longer-2', 4: 'stages-4', 8: 'longer-8' } },
  ];
  const all = lines.flatMap(({ names }) => Object.values(names).flatMap(last));
  const yMost = Math.ceil((Math.max(...all) * 1.04) / 0.05) * 0.05;
  const [across, up] = [onLog(1, 16), upTo(yMost)];
  const body = lines.flatMap(({ names }, i) => {
    const points = Object.entries(names).map(([n, stage]) => [Number(n), last(stage)]);
    return [
      ...points.flatMap(([n, values]) =>
        values.map((value) => `<circle cx="${across(n)}" cy="${up(value)}" r="3.5" fill="${colors[i]}" fill-opacity="0.45"/>`),
      ),
      line(
        points.map(([n, values]) => `${across(n)} ${up(mean(values))}`),
        colors[i],
      ),
    ];
  });
  const c = mean(last('stages-1'));
  const curve = Array.from({ length: 41 }, (_, i) => 16 ** (i / 40)).map((n) => `${across(n)} ${up(c / n)}`);
  const dense = mean(stages.find((each) => each.stage === 'dense').klToTeacher);
  return frame(
    'KL to the teacher of students pruned to a sixteenth, against the number of stages',
    [
      ...body,
      line(curve, grey, true),
      line([`${across(1)} ${up(dense)}`, `${across(16)} ${up(dense)}`], grey),
      ...legend([
        ...lines.map(({ title }, i) => ({ title, color: colors[i] })),
        { title: 'C/n through one shot', color: grey, dash: true },
        { title: 'dense student', color: grey },
      ]),
    ],
    {
      xTicks: [1, 2, 4, 8, 16].map((n) => [n, String(n)]),
      xLabel: 'stages n',
      yLabel: 'KL to the teacher, nats',
      yMost,
      yStep: 0.05,
      across,
      up,
    },
  );
}

/** The error after each level against the share of weights that is left. */
function levelsPicture({ stages }) {
  const runs = [1, 2, 4, 8, 16];
  const levels = runs.map((n) => stages.filter((each) => each.stage === `stages-${n}`));
  const yMost = Math.ceil((Math.max(...levels.flat().flatMap(({ klToTeacher }) => mean(klToTeacher))) * 1.04) / 0.02) * 0.02;
  const [low, high] = [1 / 16, 1];
  const [place, up] = [onLog(low, high), upTo(yMost)];
  // Pruning goes from left to right.
  const across = (left) => place((low * high) / left);
  const dense = mean(stages.find((each) => each.stage === 'dense').klToTeacher);
  const body = levels.flatMap((own, i) => {
    const points = [[1, dense], ...own.map(({ sparsity, klToTeacher }) => [1 - sparsity, mean(klToTeacher)])];
    return [
      line(
        points.map(([left, value]) => `${across(left)} ${up(value)}`),
        colors[i],
      ),
      ...points.slice(1).map(([left, value]) => `<circle cx="${across(left)}" cy="${up(value)}" r="3.5" fill="${colors[i]}"/>`),
    ];
  });
  return frame(
    'KL to the teacher after each level, for 1 to 16 stages of the same steps in all',
    [...body, ...legend(runs.map((n, i) => ({ title: n === 1 ? 'one shot' : `${n} stages`, color: colors[i] })))],
    {
      xTicks: [1, 1 / 2, 1 / 4, 1 / 8, 1 / 16].map((left) => [left, left === 1 ? 'all' : `1/${1 / left}`]),
      xLabel: 'weights that are left',
      yLabel: 'KL to the teacher, nats',
      yMost,
      yStep: 0.02,
      across,
      up,
    },
  );
}

/** Bias and variance, one on the other, of dense and sparse students. */
function spreadPicture({ stages }) {
  const bars = [
    ['dense', stages.find((each) => each.stage === 'dense')],
    ...stages.filter((each) => each.stage === 'stages-4').map((each) => [`1/${Math.round(1 / (1 - each.sparsity))}`, each]),
    ['one shot', stages.find((each) => each.stage === 'stages-1')],
  ];
  const yMost = Math.ceil((Math.max(...bars.map(([, { spread }]) => spread.klBias + spread.klVariance)) * 1.04) / 0.02) * 0.02;
  const up = upTo(yMost);
  const step = (size.width - size.left - size.right) / bars.length;
  const across = (i) => (size.left + (i + 0.5) * step).toFixed(1);
  const body = bars.flatMap(([, { spread }], i) => {
    const bar = (from, to, color) =>
      `<rect x="${(Number(across(i)) - 0.3 * step).toFixed(1)}" width="${(0.6 * step).toFixed(1)}" y="${up(to)}" height="${(up(from) - up(to)).toFixed(1)}" fill="${color}" fill-opacity="0.8"/>`;
    return [bar(0, spread.klBias, colors[1]), bar(spread.klBias, spread.klBias + spread.klVariance, colors[0])];
  });
  return frame(
    'Bias and variance of the KL to the teacher, of dense and sparse students',
    [
      ...body,
      ...legend([
        { title: 'variance over seeds', color: colors[0] },
        { title: 'bias', color: colors[1] },
      ]),
    ],
    {
      xTicks: bars.map(([title], i) => [i, title]),
      xLabel: 'weights that are left, in four stages; and 1/16 at once',
      yLabel: 'KL to the teacher, nats',
      yMost,
      yStep: 0.02,
      across,
      up,
    },
  );
}

function draw() {
  const numbers = JSON.parse(readFileSync(kept, 'utf8'));
  for (const [name, picture] of Object.entries({ stages: stagesPicture, levels: levelsPicture, spread: spreadPicture })) {
    const file = path.join(root, `docs/figures/sparse-kd-${name}.svg`);
    writeFileSync(file, picture(numbers));
    console.log(path.relative(root, file));
  }
}

const [command, folder] = process.argv.slice(2);
if (command === 'keep' && folder !== undefined) keep(folder);
else if (command === 'draw') draw();
else {
  console.error('node scripts/study-sparse-kd.mjs keep <run folder> | draw');
  process.exitCode = 1;
}
