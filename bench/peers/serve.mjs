// What the peers in Node share: answer one request a line on stdin, { task, rows, cols, seconds, variants? }, with one line on stdout.
import { createInterface } from 'node:readline';
import { load } from './data.mjs';

/** Memory over which the copies of the inputs rotate, so that no call finds them in a cache. */
export const ROTATED = 160e6;

export const sumAbs = (values) => values.reduce((sum, value) => sum + Math.abs(value), 0);
export const sumSquares = (values) => values.reduce((sum, value) => sum + value * value, 0);
export const sumOf = (values) => values.reduce((sum, value) => sum + Number(value), 0);

export const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
};

/** Times run(set) in turn over the sets, after one call that warms up. */
export async function time(run, sets, seconds, isAsync) {
  const samples = [];
  if (isAsync) await run(0);
  else run(0);
  const end = performance.now() + 1000 * seconds;
  for (let i = 1; samples.length < 2 || (performance.now() < end && samples.length < 5000); i += 1) {
    const begin = performance.now();
    if (isAsync) await run(i % sets);
    else run(i % sets);
    samples.push(performance.now() - begin);
  }
  return { ms: median(samples), spread: (Math.max(...samples) - Math.min(...samples)) / median(samples), samples: samples.length };
}

/** How many copies of the inputs there are to be. */
export const setsFor = (rows, cols) => Math.max(1, Math.min(200, Math.ceil(ROTATED / (8 * rows * cols))));

/**
 * prepare(data, sets) gives what variants(task, inputs, data) turns into { name: { run(set), check?() } }; check is one number of the
 * result that all peers must agree on.
 */
export function serve({ name, prepare, variants, release, isAsync = false }) {
  const folder = process.argv[2];
  let key = '';
  let inputs;
  let data;
  const answer = async ({ task, rows, cols, seconds, only }) => {
    if (key !== `${rows}x${cols}`) {
      if (inputs !== undefined) await release?.(inputs);
      data = load(folder, rows, cols);
      inputs = await prepare(data, setsFor(rows, cols));
      key = `${rows}x${cols}`;
    }
    const found = await variants(task, inputs, data);
    const out = {};
    for (const [variant, { run, check, close }] of Object.entries(found ?? {})) {
      if (only === undefined || only.includes(variant)) {
        out[variant] = await time(run, setsFor(rows, cols), seconds, isAsync);
        if (only === undefined && check !== undefined) out[variant].check = await check();
      }
      await close?.();
    }
    return out;
  };
  const lines = createInterface({ input: process.stdin });
  let queue = Promise.resolve();
  lines.on('line', (line) => {
    queue = queue.then(async () => {
      let reply;
      try {
        reply = { variants: await answer(JSON.parse(line)) };
      } catch (error) {
        reply = { error: String(error?.message ?? error).split('\n')[0] };
      }
      process.stdout.write(`@${JSON.stringify(reply)}\n`);
    });
  });
  lines.on('close', () => queue.then(() => process.exit(0)));
  process.stdout.write(`@${JSON.stringify({ ready: name })}\n`);
}
