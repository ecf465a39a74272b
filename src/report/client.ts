// The report's own script: draws its charts to the width of the page. Bundled into one file that the report carries inside.
import * as Plot from '@observablehq/plot';
import type { ChartData, CurveMark, HistogramBin } from './chart-data.js';

// The few names of the browser that are used here; the rest of the project is compiled without them.
interface Place {
  id: string;
  clientWidth: number;
  dataset: Record<string, string | undefined>;
  textContent: string | null;
  replaceChildren(...children: unknown[]): void;
}
declare const document: { getElementById(id: string): Place | null; querySelectorAll(selector: string): Iterable<Place> };
declare const window: { addEventListener(name: 'resize', listener: () => void): void };
declare const requestAnimationFrame: (draw: () => void) => void;

const data = JSON.parse(document.getElementById('chart-data')!.textContent!) as ChartData;

// Okabe and Ito's palette: told apart with any colour vision, on light and on dark.
const palette = ['#6b7280', '#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9'];
const colors = { domain: data.series, range: data.series.map((_, i) => palette[i % palette.length]!) };

const style = { fontSize: '12px', fontFamily: 'inherit', background: 'none', overflow: 'visible' };
const two = (value: number) => value.toFixed(2);

function curves(marks: readonly CurveMark[], width: number, label: string, unit: string, log: boolean): unknown {
  const digits = unit === '%' ? 2 : 4;
  const shown = [...new Set(marks.map((m) => m.series))];
  return Plot.plot({
    width,
    height: Math.max(240, Math.min(340, width * 0.6)),
    marginLeft: 46,
    marginRight: 10,
    marginBottom: 36,
    style,
    x: {
      label: 'epoch',
      labelAnchor: 'center',
      labelArrow: 'none',
      ticks: Math.min(10, Math.floor(width / 45)),
      tickFormat: (d: number) => (Number.isInteger(d) ? String(d) : ''),
    },
    y: { label, grid: true, type: log ? 'log' : 'linear', ticks: 5, tickFormat: (d: number) => `${Number(d.toPrecision(2))}` },
    color: { domain: shown, range: shown.map((s) => colors.range[colors.domain.indexOf(s)]!) },
    marks: [
      Plot.areaY(marks, { x: 'epoch', y1: 'low', y2: 'high', fill: 'series', fillOpacity: 0.18, curve: 'linear' }),
      Plot.lineY(marks, { x: 'epoch', y: 'mean', stroke: 'series', strokeWidth: 2 }),
      Plot.dot(marks, { x: 'epoch', y: 'mean', fill: 'series', r: 2 }),
      Plot.tip(
        marks,
        Plot.pointer({
          x: 'epoch',
          y: 'mean',
          stroke: 'series',
          fill: 'var(--surface)',
          title: (m: CurveMark) =>
            `${m.series}\nepoch ${m.epoch}\n${m.mean.toFixed(digits)}${unit && ` ${unit}`}\nseeds from ${m.low.toFixed(digits)} to ${m.high.toFixed(digits)}`,
        }),
      ),
    ],
  });
}

function reliability(index: number, width: number): unknown {
  const { bins } = data.reliability[index]!;
  const largest = Math.max(...bins.map((b) => b.count));
  const narrow = width < 220;
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
      Plot.dot(bins, { x: 'confidence', y: 'accuracy', r: 'count', fill: '#0072b2', fillOpacity: 0.85, stroke: 'var(--surface)' }),
      Plot.tip(
        bins,
        Plot.pointer({
          x: 'confidence',
          y: 'accuracy',
          fill: 'var(--surface)',
          title: (b: (typeof bins)[number]) =>
            `confidence ${two(b.confidence)}\nright ${two(b.accuracy)}\n${b.count.toLocaleString('en-US')} answers`,
        }),
      ),
    ],
  });
}

function sparsity(width: number): unknown {
  const marks = data.sparsity;
  const series = [...new Set(marks.map((m) => m.series))];
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
    color: { domain: series, range: series.map((s) => colors.range[colors.domain.indexOf(s)]!) },
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
      Plot.lineY(marks, { x: 'sparsity', y: 'mean', stroke: 'series', strokeWidth: 2 }),
      Plot.dot(marks, { x: 'sparsity', y: 'mean', fill: 'series', r: 4.5, symbol: 'series' }),
      Plot.tip(
        marks,
        Plot.pointer({
          x: 'sparsity',
          y: 'mean',
          stroke: 'series',
          fill: 'var(--surface)',
          title: (m: (typeof marks)[number]) =>
            `${m.series}\n${m.sparsity.toFixed(1)} % zero\naccuracy ${two(m.mean)} %\nseeds from ${two(m.low)} to ${two(m.high)}`,
        }),
      ),
    ],
  });
}

function histogram(index: number, width: number): unknown {
  const { label, bins } = data.histograms![index]!;
  return Plot.plot({
    width,
    height: Math.max(220, Math.min(300, width * 0.5)),
    marginLeft: 56,
    marginRight: 10,
    marginBottom: 38,
    style,
    x: { label, labelAnchor: 'center', labelArrow: 'none', ticks: Math.min(10, Math.floor(width / 50)) },
    y: { label: 'rows', grid: true, ticks: 5, tickFormat: '~s' },
    marks: [
      Plot.rectY(bins, { x1: 'from', x2: 'to', y: 'rows', fill: '#0072b2', inset: 0.5 }),
      Plot.ruleY([0], { stroke: 'currentColor' }),
      Plot.tip(
        bins,
        Plot.pointerX({
          x: (bin: HistogramBin) => (bin.from + bin.to) / 2,
          y: 'rows',
          fill: 'var(--surface)',
          title: (bin: HistogramBin) =>
            `${Number(bin.from.toPrecision(3))} to ${Number(bin.to.toPrecision(3))}\n${bin.rows.toLocaleString('en-US')} rows`,
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
    case 'histogram':
      return histogram(Number(place.dataset['index']), width);
    default:
      return reliability(Number(place.dataset['index']), width);
  }
}

function drawAll(): void {
  for (const place of document.querySelectorAll('[data-chart]')) {
    // Drawn anew only where the width has changed: scrolling on a phone fires resize too.
    if (place.dataset['drawn'] === String(place.clientWidth)) continue;
    place.dataset['drawn'] = String(place.clientWidth);
    place.replaceChildren(draw(place));
  }
}

drawAll();
window.addEventListener('resize', () => requestAnimationFrame(drawAll));
