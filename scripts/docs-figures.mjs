// Draws docs/figures/<divergence>.svg for every page of docs/divergences: the best student of one bump for a teacher of two modes. Needs dist/.
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { kdLoss, tensor } from '../dist/index.js';
import { root } from './counts.mjs';

const cols = 121;
const xs = Float64Array.from({ length: cols }, (_, i) => -6 + (12 * i) / (cols - 1));
const bump = (x, mean, width) => Math.exp(-0.5 * ((x - mean) / width) ** 2) / width;
const teacher = xs.map((x) => Math.log(0.62 * bump(x, -2.2, 0.7) + 0.38 * bump(x, 2.2, 0.9)));

const softmax = (logits) => {
  const most = Math.max(...logits);
  const weights = logits.map((z) => Math.exp(z - most));
  const total = weights.reduce((a, b) => a + b);
  return weights.map((w) => w / total);
};

const studentLogits = ([mean, width]) => xs.map((x) => -0.5 * ((x - mean) / width) ** 2);

/** The best of a grid of means and widths, all as rows of one call. */
function bestOf(divergence, grid) {
  const rows = grid.length;
  const student = new Float64Array(rows * cols);
  const target = new Float64Array(rows * cols);
  grid.forEach((parameters, r) => {
    student.set(studentLogits(parameters), r * cols);
    target.set(teacher, r * cols);
  });
  const put = (logits) => tensor(logits, { shape: [rows, cols] });
  const loss = kdLoss(put(student), put(target), { divergence, reduction: 'none' }).data;
  return grid[loss.indexOf(Math.min(...loss))];
}

function gridAround([mean, width], reach, count) {
  const grid = [];
  for (let i = -count; i <= count; i++)
    for (let j = -count; j <= count; j++) grid.push([mean + (reach * i) / count, width * Math.exp((reach * j) / count / 4)]);
  return grid;
}

function fit(divergence) {
  let best = [0, 1.5];
  for (let reach = 4; reach > 1e-3; reach /= 8) best = bestOf(divergence, gridAround(best, reach, 40));
  return best;
}

const size = { width: 640, height: 190, left: 8, right: 8, top: 10, bottom: 26 };
const highest = 0.06;
const place = (x, p) => {
  const across = size.left + ((x + 6) / 12) * (size.width - size.left - size.right);
  const up = size.height - size.bottom - (p / highest) * (size.height - size.top - size.bottom);
  return `${across.toFixed(1)} ${up.toFixed(1)}`;
};
const line = (probs) => `M${Array.from(xs, (x, i) => place(x, probs[i])).join('L')}`;

function picture(name) {
  const [mean, width] = fit(name);
  const [p, q] = [softmax(teacher), softmax(studentLogits([mean, width]))];
  const baseline = size.height - size.bottom;
  const text = (x, words, color) =>
    `<text x="${x}" y="${size.height - 8}" font-family="sans-serif" font-size="13" fill="${color}">${words}</text>`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${size.width} ${size.height}" width="${size.width}" height="${size.height}" role="img">`,
    `<title>The best student of one bump under ${name}: mean ${mean.toFixed(2)}, width ${width.toFixed(2)}</title>`,
    `<path d="${line(p)}L${place(6, 0)}L${place(-6, 0)}Z" fill="#8a8f98" fill-opacity="0.45"/>`,
    `<path d="${line(q)}" fill="none" stroke="#d9622b" stroke-width="2.5"/>`,
    `<path d="M0 ${baseline}H${size.width}" stroke="#8a8f98"/>`,
    text(size.left, 'teacher', '#8a8f98'),
    text(size.left + 60, `student under ${name}: mean ${mean.toFixed(2)}, width ${width.toFixed(2)}`, '#d9622b'),
    '</svg>',
    '',
  ].join('\n');
}

const folder = path.join(root, 'docs/figures');
mkdirSync(folder, { recursive: true });
for (const file of readdirSync(path.join(root, 'docs/divergences')).sort()) {
  const name = path.basename(file, '.md');
  writeFileSync(path.join(folder, `${name}.svg`), picture(name));
}
