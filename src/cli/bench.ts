// limbeck bench: the table of what the losses take on one device, line by line as it is measured.
import { resolve } from 'node:path';
import { benchLosses, type BenchLine, type BenchOptions, type BenchSkipped, type BenchTiming } from '../bench/losses.js';
import type { BenchDType } from '../bench/arena.js';
import { devices, setDevice, setThreads, type Device } from '../device.js';
import { checkWritable, writeWhole } from '../distill/files.js';
import { size } from '../distill/results.js';

/** What the command line gives. */
export interface BenchFlags {
  device: string;
  rows?: number;
  cols?: number[];
  dtypes?: BenchDType[];
  k?: number;
  seconds?: number;
  threads?: number;
  quick?: true;
  json?: string;
}

const WIDTHS = { task: 38, dtype: 10, rows: 7, cols: 9, k: 5 };

const HEAD = `${'task'.padEnd(WIDTHS.task)}${'dtype'.padEnd(WIDTHS.dtype)}${'rows'.padStart(WIDTHS.rows)}${'cols'.padStart(WIDTHS.cols)}${'k'.padStart(WIDTHS.k)}${'ms'.padStart(11)}${'spread'.padStart(9)}${'GB/s'.padStart(9)}${'of copy'.padStart(9)}`;

function nameOf({ task, dtype, rows, cols, k }: BenchLine): string {
  return `${task.padEnd(WIDTHS.task)}${dtype.padEnd(WIDTHS.dtype)}${String(rows).padStart(WIDTHS.rows)}${String(cols).padStart(WIDTHS.cols)}${String(k ?? '').padStart(WIDTHS.k)}`;
}

/** One line of the table. */
export function benchText(line: BenchTiming | BenchSkipped): string {
  if ('skipped' in line) return `${nameOf(line)}    skipped: ${line.skipped}`;
  const spread = `±${Math.round(50 * line.spread)} %`;
  const share = `${Math.round(100 * line.shareOfCopy)} %`;
  const rate = line.gigabytesPerSecond.toFixed(line.gigabytesPerSecond < 10 ? 2 : 0);
  return `${nameOf(line)}${line.milliseconds.toFixed(3).padStart(11)}${spread.padStart(9)}${rate.padStart(9)}${share.padStart(9)}${productsText(line)}`;
}

/** What the line of products says beside: they take its time, not memory. */
function productsText({ inputs, flops, milliseconds, scratchBytes }: BenchTiming): string {
  if (inputs === undefined || flops === undefined || scratchBytes === undefined) return '';
  const rate = flops / milliseconds / 1e6;
  const speed = rate < 1000 ? `${rate.toFixed(1)} GFLOP/s` : `${(rate / 1000).toFixed(1)} TFLOP/s`;
  return `  ${inputs} inputs, ${speed}, scratch ${size(scratchBytes)}`;
}

const HELP = `ms: the median of one call; spread: half of what lies between the 10th and 90th percentile.
GB/s: bytes that any implementation must move (each input read once, each output written once) by that time.
of copy: that rate beside the best one of copying memory measured in this run. Each call runs on other buffers than the last.
`;

/** Runs the bench and prints its table; what is being measured shows on a terminal meanwhile. */
export async function bench(flags: BenchFlags, screen: NodeJS.WriteStream = process.stderr): Promise<void> {
  const { device: wanted, threads, json, ...options } = flags;
  if (threads !== undefined) setThreads(threads);
  const { device, reason } = setDevice(wanted as Device | 'auto');
  // Not after minutes of measuring.
  if (json !== undefined) await checkWritable(resolve(json));
  const live = screen.isTTY === true && process.env['TERM'] !== 'dumb';
  const clear = (): void => void (live && screen.write('\r\u001b[2K'));
  const { name, emulated } = devices().find((each) => each.device === device)!;
  const what = emulated === true ? 'EMULATED on the host: these times say nothing of any card' : name;
  process.stdout.write(`device ${device} (${reason}): ${what}\n${HEAD}\n`);
  const report = benchLosses({
    ...(options as Omit<BenchOptions, 'device'>),
    device,
    onStart: ({ task, dtype, cols }) => void (live && screen.write(`\r\u001b[2Kmeasuring ${task}, ${dtype}, ${cols} columns`)),
    onLine: (line) => {
      clear();
      process.stdout.write(`${benchText(line)}\n`);
    },
  });
  clear();
  const where = report.clock === 'events' ? 'events of the device' : `the clock, ${report.threads} threads, ${report.instructionSet}`;
  process.stdout.write(
    `\n${report.name}, limbeck ${report.limbeck}; copy: ${report.copyGigabytesPerSecond.toFixed(1)} GB/s; times by ${where}\n${HELP}`,
  );
  if (report.emulated) process.stdout.write('EMULATED on the host: these times say nothing of any card.\n');
  if (json !== undefined) await writeWhole(resolve(json), `${JSON.stringify({ date: new Date().toISOString(), ...report }, null, 1)}\n`);
}
