// The report's own script: draws its charts to the width of the page. Bundled into one file that the report carries inside.
import * as Plot from '@observablehq/plot';
import type { ChartData, CurveMark, HistogramBin } from './chart-data.js';
import { walk, type Item } from './keyboard.js';

// The few names of the browser that are used here; the rest of the project is compiled without them.
interface Drawing {
  querySelectorAll(selector: string): Iterable<Item>;
  dispatchEvent(event: object): void;
}
interface Place {
  id: string;
  clientWidth: number;
  dataset: Record<string, string | undefined>;
  textContent: string | null;
  hidden: boolean;
  replaceChildren(...children: unknown[]): void;
  querySelectorAll(selector: string): Iterable<Item>;
  querySelector(selector: 'svg'): Drawing | null;
}
declare const document: { getElementById(id: string): Place | null; querySelectorAll(selector: string): Iterable<Place> };
declare const ResizeObserver: new (listener: () => void) => { observe(place: Place): void };
declare const requestAnimationFrame: (draw: () => void) => void;
declare const PointerEvent: new (name: string, init: object) => object;

const data = JSON.parse(document.getElementById('chart-data')!.textContent!) as ChartData;

// Okabe and Ito's palette: told apart with any colour vision, on light and on dark.
const palette = ['#6b7280', '#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9'];
// Beside the colour each model has its own dash and its own symbol.
const dashes = ['none', '8 3', '2 3', '10 3 2 3', '14 4', '5 2', '1 3'];
const symbols = ['circle', 'square', 'triangle', 'diamond', 'star', 'cross', 'wye'] as const;
const look = (series: string) => {
  const i = data.series.indexOf(series);
  return { color: palette[i % palette.length]!, dash: dashes[i % dashes.length]!, symbol: symbols[i % symbols.length]! };
};
const scales = (shown: readonly string[]) => ({
  color: { domain: [...shown], range: shown.map((series) => look(series).color) },
  symbol: { domain: [...shown], range: shown.map((series) => look(series).symbol) },
});

/** A line with its points for each model; the points can be walked to. */
function lines<T extends { series: string }>(
  marks: readonly T[],
  x: keyof T & string,
  title: (mark: T) => string,
  r: number,
): Plot.Markish[] {
  const shown = [...new Set(marks.map((m) => m.series))];
  return [
    ...shown.map((series) => {
      const { color, dash } = look(series);
      return Plot.lineY(
        marks.filter((m) => m.series === series),
        { x, y: 'mean', stroke: color, strokeWidth: 2, strokeDasharray: dash },
      );
    }),
    Plot.dot(marks, { x, y: 'mean', fill: 'series', symbol: 'series', r, ariaLabel: spoken(title) }),
  ];
}

/** A point's own words for those who do not see it. */
const spoken =
  <T>(title: (mark: T) => string) =>
  (mark: T) =>
    title(mark).replaceAll('\n', ', ');

function key(index: number, width: number): unknown {
  const { color, dash, symbol } = look(data.series[index]!);
  return Plot.plot({
    width,
    height: 14,
    margin: 0,
    style,
    axis: null,
    x: { domain: [0, 2] },
    y: { domain: [0, 2] },
    marks: [
      Plot.link([0], { x1: 0, y1: 1, x2: 2, y2: 1, stroke: color, strokeWidth: 2, strokeDasharray: dash }),
      Plot.dot([0], { x: 1, y: 1, fill: color, symbol, r: 4 }),
    ],
  });
}

const style = { fontSize: '12px', fontFamily: 'inherit', background: 'none', overflow: 'visible' };
const two = (value: number) => value.toFixed(2);

/** A logarithmic axis over less than a decade names few of its ticks: these are round numbers between its ends. */
function roundTicks(low: number, high: number): number[] | undefined {
  if (!(low > 0 && high > low && high < 10 * low)) return undefined;
  const raw = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw * (1 - 1e-9))!;
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/** @param starts lines across the plot, each with its number above */
function curves(
  marks: readonly CurveMark[],
  width: number,
  label: string,
  unit: string,
  log: boolean,
  starts: ChartData['starts'] = [],
  xLabel = 'epoch',
): unknown {
  const digits = unit === '%' ? 2 : 4;
  const shown = [...new Set(marks.map((m) => m.series))];
  const ticks = log ? (roundTicks(Math.min(...marks.map((m) => m.low)), Math.max(...marks.map((m) => m.high))) ?? 5) : 5;
  // Stages by steps may end within an epoch or two.
  const isShort = Math.max(...marks.map((m) => m.epoch)) < 3;
  const title = (m: CurveMark) =>
    `${m.series}\n${xLabel} ${m.epoch}\n${m.mean.toFixed(digits)}${unit && ` ${unit}`}\nseeds from ${m.low.toFixed(digits)} to ${m.high.toFixed(digits)}`;
  return Plot.plot({
    width,
    height: Math.max(240, Math.min(340, width * 0.6)),
    marginLeft: 46,
    marginRight: 10,
    marginBottom: 36,
    marginTop: starts.length > 0 ? 42 : 20,
    style,
    x: {
      label: xLabel,
      labelAnchor: 'center',
      labelArrow: 'none',
      ticks: Math.min(10, Math.floor(width / 45)),
      tickFormat: (d: number) => (isShort || Number.isInteger(d) ? String(Number(d.toPrecision(3))) : ''),
    },
    y: {
      label,
      grid: true,
      type: log ? 'log' : 'linear',
      ticks,
      tickFormat: (d: number) => `${Number(d.toPrecision(typeof ticks === 'number' ? 2 : 4))}`,
    },
    ...scales(shown),
    marks: [
      Plot.ruleX(starts, { x: 'epoch', stroke: 'currentColor', strokeOpacity: 0.6 }),
      Plot.text(starts, { x: 'epoch', text: 'number', frameAnchor: 'top', dy: -10, fontWeight: 600, fill: 'currentColor' }),
      Plot.areaY(marks, { x: 'epoch', y1: 'low', y2: 'high', fill: 'series', fillOpacity: 0.18, curve: 'linear' }),
      ...lines(marks, 'epoch', title, 2.5),
      Plot.tip(
        marks,
        Plot.pointer({
          x: 'epoch',
          y: 'mean',
          stroke: 'series',
          fill: 'var(--surface)',
          title,
        }),
      ),
    ],
  });
}

/** What a probe draws: its lines have names of their own, told apart as those of models are. */
function plot(index: number, width: number): unknown {
  const { marks, xLabel, yLabel, isLogarithmic } = data.plots[index]!;
  const names = [...new Set(marks.map((m) => m.series))];
  const at = (list: readonly string[]) => names.map((_, i) => list[(i + 1) % list.length]!);
  const title = (m: (typeof marks)[number]) => `${m.series}\n${xLabel} ${Number(m.x.toPrecision(4))}\n${Number(m.y.toPrecision(5))}`;
  return Plot.plot({
    width,
    height: Math.max(240, Math.min(340, width * 0.6)),
    marginLeft: 58,
    marginRight: 10,
    marginTop: 30,
    marginBottom: 36,
    style,
    x: { label: xLabel, labelAnchor: 'center', labelArrow: 'none', ticks: Math.min(10, Math.floor(width / 50)) },
    y: {
      label: yLabel,
      grid: true,
      type: isLogarithmic ? 'log' : 'linear',
      ticks: 5,
      tickFormat: (d: number) => `${Number(d.toPrecision(2))}`,
    },
    color: { domain: names, range: at(palette) },
    symbol: { domain: names, range: at(symbols) },
    marks: [
      ...names.map((name, i) =>
        Plot.lineY(
          marks.filter((m) => m.series === name),
          { x: 'x', y: 'y', stroke: at(palette)[i]!, strokeWidth: 2, strokeDasharray: at(dashes)[i]! },
        ),
      ),
      Plot.dot(marks, { x: 'x', y: 'y', fill: 'series', symbol: 'series', r: 2.5, ariaLabel: spoken(title) }),
      Plot.text(
        names.flatMap((name) => marks.filter((m) => m.series === name).slice(-1)),
        { x: 'x', y: 'y', text: 'series', textAnchor: 'end', dy: -9, fill: 'currentColor', stroke: 'var(--surface)', strokeWidth: 4 },
      ),
      Plot.tip(marks, Plot.pointer({ x: 'x', y: 'y', stroke: 'series', fill: 'var(--surface)', title })),
    ],
  });
}

function reliability(index: number, width: number): unknown {
  const { bins } = data.reliability[index]!;
  const largest = Math.max(...bins.map((b) => b.count));
  const narrow = width < 220;
  const title = (b: (typeof bins)[number]) =>
    `confidence ${two(b.confidence)}\nright ${two(b.accuracy)}\n${b.count.toLocaleString('en-US')} answers`;
  return Plot.plot({
    width,
    height: width,
    marginLeft: narrow ? 28 : 34,
    marginRight: 8,
    marginBottom: 36,
    style,
    x: { label: 'confidence', domain: [0, 1], ticks: narrow ? 2 : 5, grid: true, labelAnchor: 'center', labelArrow: 'none' },
    y: { label: 'share that is right', domain: [0, 1], ticks: narrow ? 2 : 5, grid: true, labelArrow: 'none' },
    r: { domain: [0, largest], range: [2.5, narrow ? 7 : 9] },
    marks: [
      Plot.link([0], { x1: 0, y1: 0, x2: 1, y2: 1, stroke: 'currentColor', strokeOpacity: 0.5, strokeDasharray: '4 4' }),
      Plot.link(bins, {
        x1: 'confidence',
        y1: 'confidence',
        x2: 'confidence',
        y2: 'accuracy',
        stroke: '#d55e00',
        strokeWidth: 2,
        strokeOpacity: 0.7,
      }),
      Plot.dot(bins, {
        x: 'confidence',
        y: 'accuracy',
        r: 'count',
        fill: '#0072b2',
        fillOpacity: 0.85,
        stroke: 'var(--surface)',
        sort: 'confidence',
        ariaLabel: spoken(title),
      }),
      Plot.tip(
        bins,
        Plot.pointer({
          x: 'confidence',
          y: 'accuracy',
          fill: 'var(--surface)',
          title,
        }),
      ),
    ],
  });
}

function sparsity(width: number): unknown {
  const marks = data.sparsity;
  const title = (m: (typeof marks)[number]) =>
    `${m.series}\n${m.sparsity.toFixed(1)} % zero\naccuracy ${two(m.mean)} %\nseeds from ${two(m.low)} to ${two(m.high)}`;
  return Plot.plot({
    width,
    height: Math.max(260, Math.min(360, width * 0.6)),
    marginLeft: 52,
    marginRight: 14,
    marginTop: 24,
    marginBottom: 36,
    style,
    x: {
      label: 'weights that are zero, %',
      labelAnchor: 'center',
      labelArrow: 'none',
      domain: [0, 100],
      ticks: [0, 25, 50, 75, 87.5],
      tickFormat: String,
    },
    y: { label: 'test accuracy, %', grid: true, nice: true, inset: 8 },
    ...scales([...new Set(marks.map((m) => m.series))]),
    marks: [
      Plot.ruleY(data.levels, { y: 'mean', stroke: 'currentColor', strokeOpacity: 0.55, strokeDasharray: '5 4' }),
      Plot.text(data.levels, {
        y: 'mean',
        text: 'title',
        frameAnchor: 'right',
        textAnchor: 'end',
        dx: -2,
        dy: -7,
        fill: 'currentColor',
        stroke: 'var(--surface)',
        strokeWidth: 4,
      }),
      Plot.ruleX(marks, { x: 'sparsity', y1: 'low', y2: 'high', stroke: 'series', strokeWidth: 1.5 }),
      ...lines(marks, 'sparsity', title, 4.5),
      Plot.tip(
        marks,
        Plot.pointer({
          x: 'sparsity',
          y: 'mean',
          stroke: 'series',
          fill: 'var(--surface)',
          title,
        }),
      ),
    ],
  });
}

function histogram(index: number, width: number): unknown {
  const { label, unit, bins } = data.histograms[index]!;
  const title = (bin: HistogramBin) =>
    `${Number(bin.from.toPrecision(3))} to ${Number(bin.to.toPrecision(3))}\n${bin.rows.toLocaleString('en-US')} ${unit}`;
  return Plot.plot({
    width,
    height: Math.max(220, Math.min(300, width * 0.5)),
    marginLeft: 56,
    marginRight: 10,
    marginBottom: 38,
    style,
    x: { label, labelAnchor: 'center', labelArrow: 'none', ticks: Math.min(10, Math.floor(width / 50)) },
    y: { label: unit, grid: true, ticks: 5, tickFormat: '~s' },
    marks: [
      Plot.rectY(bins, { x1: 'from', x2: 'to', y: 'rows', fill: '#0072b2', inset: 0.5, ariaLabel: spoken(title) }),
      Plot.ruleY([0], { stroke: 'currentColor' }),
      Plot.tip(
        bins,
        Plot.pointerX({
          x: (bin: HistogramBin) => (bin.from + bin.to) / 2,
          y: 'rows',
          fill: 'var(--surface)',
          title,
        }),
      ),
    ],
  });
}

function draw(place: Place): unknown {
  const width = place.clientWidth;
  switch (place.dataset['chart']) {
    case 'error':
      return curves(data.error, width, 'test error, %', '%', true);
    case 'nll':
      return curves(data.nll, width, 'test NLL', '', true);
    case 'pruning':
      return curves(data.pruning, width, 'test error, %', '%', true);
    case 'sparsity':
      return sparsity(width);
    case 'loss':
      return curves(data.loss, width, 'training loss', '', true, data.starts);
    case 'generations':
      return curves(data.generations, width, 'KL to the teacher', '', true, [], 'generation');
    case 'plot':
      return plot(Number(place.dataset['index']), width);
    case 'key':
      return key(Number(place.dataset['index']), width);
    case 'histogram':
      return histogram(Number(place.dataset['index']), width);
    default:
      return reliability(Number(place.dataset['index']), width);
  }
}

/** Points that say what they are: one stop of the Tab key, then the arrow keys; the one in focus shows its tip. */
function makeWalkable(place: Place): void {
  const drawing = place.querySelector('svg');
  if (drawing === null) return;
  const points = [...drawing.querySelectorAll('[aria-label] > [aria-label]')];
  for (const point of points) point.setAttribute('role', 'img');
  walk(points, (index) => {
    if (index === null) return drawing.dispatchEvent(new PointerEvent('pointerleave', { pointerType: 'mouse' }));
    const { left, top, width, height } = points[index]!.getBoundingClientRect();
    const at = { clientX: left + width / 2, clientY: top + height / 2, pointerType: 'mouse', bubbles: true };
    drawing.dispatchEvent(new PointerEvent('pointermove', at));
  });
}

const LEAST_WIDTH = 100;

function drawAll(): void {
  for (const place of document.querySelectorAll('[data-chart]')) {
    // Drawn anew only where the width has changed; drawing changes the height.
    if (place.dataset['drawn'] === String(place.clientWidth)) continue;
    // A page may be laid out before it has a window, and a folded place has no width; it comes back when it has.
    if (place.clientWidth < (place.dataset['chart'] === 'key' ? 1 : LEAST_WIDTH)) continue;
    place.dataset['drawn'] = String(place.clientWidth);
    place.replaceChildren(draw(place));
    if (place.dataset['chart'] !== 'key') makeWalkable(place);
  }
}

/** The tokens of a text: what is said of the one in focus or under the pointer stands in the line below. */
function showTokens(): void {
  const detail = document.getElementById('detail');
  const text = document.getElementById('tokens');
  if (detail === null || text === null) return;
  const cells = [...text.querySelectorAll('span')];
  const hint = detail.textContent;
  const show = (index: number): void => void (detail.textContent = data.tokens[index]!);
  let focused: number | null = null;
  walk(cells, (index) => {
    if (focused !== null) cells[focused]!.setAttribute('aria-selected', 'false');
    focused = index;
    if (index === null) return void (detail.textContent = hint);
    cells[index]!.setAttribute('aria-selected', 'true');
    show(index);
  });
  cells.forEach((cell, i) => {
    cell.setAttribute('aria-label', data.tokens[i]!);
    cell.addEventListener('pointerenter', () => show(i));
  });
}

drawAll();
showTokens();
const observer = new ResizeObserver(() => requestAnimationFrame(drawAll));
for (const place of document.querySelectorAll('[data-chart]')) observer.observe(place);
