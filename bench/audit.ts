// `npm run audit:cuda`: bytes that each kernel moves on the emulated CUDA device for each element, beside the least it could.
import { auditTable } from '../test/audit.js';

const lines = auditTable();
const rows = lines.map(({ what, dtype, cols, counted, least }) => [
  what,
  dtype,
  String(cols),
  counted.toFixed(2),
  least.toFixed(2),
  (counted / least).toFixed(3),
]);
const head = ['kernel', 'dtype', 'cols', 'bytes per element', 'least', 'ratio'];
const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]!.length)));
const line = (cells: string[]): string => `| ${cells.map((cell, i) => cell.padEnd(widths[i]!)).join(' | ')} |`;
console.log([line(head), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n'));
