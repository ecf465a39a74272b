// How the rows of a sparse target are spread: the words, plots and tables of kept mass, entropy and entries.
import { spreadsOf, type KeptSpreads } from '../cache/summary.js';
import { count } from '../distill/results.js';
import { binsOf } from './chart-data.js';
import { escape, numbersTable, plot } from './page.js';

const explained = [
  'What the kept columns of a row sum to. What is missing to 1 is in the tail, whose mass is stored exactly.',
  'How undecided the teacher is, as far as the kept columns tell.',
  'Columns stored for each row.',
];

/** A title and HTML for each spread. @param first index of the first among the page's histograms */
export function spreadParts(kept: KeptSpreads, first = 0): { title: string; html: string }[] {
  return spreadsOf(kept).map(({ title, spread, digits }, i) => {
    const named = title[0]!.toUpperCase() + title.slice(1);
    const bins = binsOf(spread);
    const note = `${explained[i]!} Mean ${spread.mean.toFixed(Math.max(1, digits))}, from ${spread.least.toFixed(digits)} to ${spread.largest.toFixed(digits)}.`;
    const figure = bins.length === 1 ? '' : `<figure>${plot('histogram', named, first + i)}</figure>\n`;
    const rows = bins.map(({ from, to, rows }) => [from.toFixed(digits), to.toFixed(digits), count(rows)]);
    return {
      title: named,
      html: `<p class="note">${escape(note)}</p>\n${figure}${numbersTable(title, ['from', 'to', 'rows'], rows)}`,
    };
  });
}
