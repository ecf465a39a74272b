// One process of `npm run bench`: one device and instruction set, a table on the terminal and, with --json FILE, the numbers.
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { benchCalls } from './calls.js';
import { benchOps, formatTiming } from './ops.js';

const { values } = parseArgs({
  options: { device: { type: 'string', default: 'cpu' }, seconds: { type: 'string' }, json: { type: 'string' } },
});
if (values.device !== 'cpu' && values.device !== 'cuda')
  throw new RangeError(`Cannot run the bench: --device must be cpu or cuda: it is ${values.device}`);
const report = benchOps({
  device: values.device,
  ...(values.seconds === undefined ? {} : { seconds: Number(values.seconds) }),
  onTiming: (timing) => console.log(formatTiming(timing)),
});
console.log(
  `copy: ${report.copyGigabytesPerSecond.toFixed(1)} GB/s read and written; ${report.threads} threads; buffers rotate over ${report.rotatedMegabytes} MB`,
);
const calls = values.device === 'cpu' ? benchCalls() : [];
for (const { call, microseconds } of calls) console.log(`${call}: ${microseconds.toFixed(2)} µs a call`);
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ ...report, calls }, null, 1)}\n`);
