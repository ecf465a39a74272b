// `npm run audit:cuda`: bytes that each kernel moves on the emulated CUDA device for each element, beside the least it could; and what 4,096
// such rows would take of an H100's time for each thing that can hold them up. Those times are estimates: no card is asked.
import { auditTable, roofline } from '../test/audit.js';

const lines = auditTable();
const rows = lines.map((one) => {
  const { what, dtype, cols, counted, least, work } = one;
  const { memory, exponentials, instructions, barriers } = roofline(one);
  const ms = [memory, exponentials, instructions, barriers, Math.max(memory, exponentials, instructions, barriers)].map((value) =>
    value.toFixed(2),
  );
  const barriersOfRow = `${work.blockBarriers.toFixed(0)} + ${work.clusterBarriers.toFixed(0)}`;
  const counts = [
    counted.toFixed(2),
    least.toFixed(2),
    (counted / least).toFixed(3),
    (work.special ?? work.exponentials).toFixed(2),
    barriersOfRow,
  ];
  return [what, dtype, String(cols), ...counts, ...ms];
});
const head = [
  'kernel',
  'dtype',
  'cols',
  'bytes per element',
  'least',
  'ratio',
  'exponentials',
  'barriers: block + cluster',
  'memory, ms (estimate)',
  'exponentials',
  'instructions',
  'barriers',
  'the longest',
];
const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]!.length)));
const line = (cells: string[]): string => `| ${cells.map((cell, i) => cell.padEnd(widths[i]!)).join(' | ')} |`;
console.log([line(head), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n'));
