// The numbers and pictures of docs/studies/recursive.md: `node scripts/study-recursive.mjs keep <run folder>` writes what the page needs of a
// full run of recipes/recursive-meta.json to bench/results/recipes, `node scripts/study-recursive.mjs draw` draws from there.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { root } from './counts.mjs';

const kept = path.join(root, 'bench/results/recipes/recursive-meta.json');
const short = (value) => Number(value.toPrecision(5));
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

function keep(folder) {
  const { recipe, machine, models, probes, checks, seconds } = JSON.parse(readFileSync(path.join(folder, 'results.json'), 'utf8'));
  const { device, instructionSet, threads, node } = machine;
  const first = models.filter(({ stage }) => stage === 'first').map(({ evaluation }) => short(evaluation.klToTeacher));
  const loops = recipe.stages
    .filter(({ kind }) => kind === 'recursion')
    .map(({ name, title, generations }) => ({
      name,
      title,
      klToTeacher: [
        first,
        ...Array.from({ length: generations }, (_, g) =>
          models.filter((m) => m.of === name && m.generation === g + 1).map(({ evaluation }) => short(evaluation.klToTeacher)),
        ),
      ],
    }));
  const exact = probes[0].series.map(({ name, title, x, lines }) => ({
    name,
    title,
    x: x.values,
    lines: lines.map((line) => ({ name: line.name, values: line.values.map(short) })),
  }));
  const small = { recipe: recipe.name, size: recipe.size, seeds: recipe.repeats, machine: { device, instructionSet, threads, node }, seconds: Math.round(seconds), loops, exact, checks }; // prettier-ignore
  mkdirSync(path.dirname(kept), { recursive: true });
  writeFileSync(kept, `${JSON.stringify(small, null, 1)}\n`);
}

const size = { width: 640, height: 360, left: 64, right: 20, top: 24, bottom: 44 };
const looks = [['#0072b2', ''], ['#009e73', '8 3'], ['#d55e00', '2 3']]; // prettier-ignore

/** Lines on a logarithmic axis, each with the band of its seeds where it has one. */
function picture(title, xLabel, lines) {
  const all = lines.flatMap(({ low, high }) => [...low, ...high]);
  const [least, most] = [Math.log10(Math.min(...all)), Math.log10(Math.max(...all))];
  const count = lines[0].mid.length - 1;
  const x = (i) => (size.left + (i / count) * (size.width - size.left - size.right)).toFixed(1);
  const y = (value) =>
    (size.height - size.bottom - ((Math.log10(value) - least) / (most - least)) * (size.height - size.top - size.bottom)).toFixed(1);
  const ticks = [];
  for (let power = Math.floor(least); power <= Math.ceil(most); power++) {
    for (const digit of most - least > 3 ? [1] : [1, 2, 3, 5]) {
      const value = digit * 10 ** power;
      if (Math.log10(value) >= least && Math.log10(value) <= most) ticks.push(value);
    }
  }
  const grid = ticks.map(
    (value) =>
      `<line x1="${size.left}" x2="${size.width - size.right}" y1="${y(value)}" y2="${y(value)}" stroke="#d8dee4"/><text x="${size.left - 8}" y="${y(value)}" text-anchor="end" dominant-baseline="middle">${Number(value.toPrecision(1))}</text>`,
  );
  const across = Array.from({ length: count + 1 }, (_, i) => i)
    .filter((i) => i % Math.ceil(count / 10) === 0)
    .map((i) => `<text x="${x(i)}" y="${size.height - size.bottom + 18}" text-anchor="middle">${i}</text>`);
  const drawn = lines.map(({ name, low, mid, high }, l) => {
    const [color, dash] = looks[l];
    const band = [...high.map((v, i) => `${x(i)},${y(v)}`), ...low.map((v, i) => `${x(i)},${y(v)}`).reverse()].join(' ');
    const path = mid.map((v, i) => `${x(i)},${y(v)}`).join(' ');
    return `<polygon points="${band}" fill="${color}" fill-opacity="0.15"/><polyline points="${path}" fill="none" stroke="${color}" stroke-width="2" stroke-dasharray="${dash}"/><text x="${x(count)}" y="${Number(y(mid.at(-1))) - 8}" text-anchor="end" fill="${color}">${name}</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${size.width} ${size.height}" font-family="system-ui, sans-serif" font-size="12" fill="#57606a" role="img" aria-label="${title}">
<rect width="100%" height="100%" fill="#ffffff"/>
${[...grid, ...across, ...drawn].join('\n')}
<text x="${size.width / 2}" y="${size.height - 6}" text-anchor="middle">${xLabel}</text>
<text x="${size.left}" y="14">${title}</text>
</svg>
`;
}

function draw() {
  const { loops, exact } = JSON.parse(readFileSync(kept, 'utf8'));
  const write = (name, text) => writeFileSync(path.join(root, `docs/figures/recursive-${name}.svg`), text);
  const trained = loops.map(({ title, klToTeacher }) => ({
    name: title,
    low: klToTeacher.map((values) => Math.min(...values)),
    mid: klToTeacher.map(mean),
    high: klToTeacher.map((values) => Math.max(...values)),
  }));
  write('trained', picture('KL to the teacher, nats (log scale); bands span the seeds', 'generation', trained));
  for (const { name, lines, title } of exact) {
    const shown = lines.map((line) => ({ name: line.name, low: line.values, mid: line.values, high: line.values }));
    write(name, picture(`${title} (log scale)`, 'generation', shown));
  }
}

const [command, folder] = process.argv.slice(2);
if (command === 'keep' && folder) keep(folder);
else if (command !== 'draw') {
  console.error('node scripts/study-recursive.mjs keep <run folder> | draw');
  process.exit(2);
}
draw();
