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

const timing = (samples) => ({
  ms: median(samples),
  spread: (Math.max(...samples) - Math.min(...samples)) / median(samples),
  samples: samples.length,
});

/** Times each of the functions run(set), call by call in turns, each in turn over the sets, after one call that warms up. */
export async function time(runs, sets, seconds, isAsync) {
  const samples = runs.map(() => []);
  for (const run of runs) {
    if (isAsync) await run(0);
    else run(0);
  }
  const end = performance.now() + 1000 * seconds;
  let call = 1;
  while (samples[0].length < 2 || (performance.now() < end && samples[0].length < 5000)) {
    for (const [k, run] of runs.entries()) {
      const begin = performance.now();
      if (isAsync) await run(call % sets);
      else run(call % sets);
      samples[k].push(performance.now() - begin);
      call += 1;
    }
  }
  return samples.map(timing);
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
  const answer = async ({ task, against, rows, cols, seconds, only }) => {
    if (key !== `${rows}x${cols}`) {
      if (inputs !== undefined) await release?.(inputs);
      data = load(folder, rows, cols);
      inputs = await prepare(data, setsFor(rows, cols));
      key = `${rows}x${cols}`;
    }
    const found = await variants(task, inputs, data);
    const out = {};
    if (against !== undefined) {
      // Two of our own, so close that a neighbour's work in between would show.
      const runs = [found, await variants(against, inputs, data)].map((of) => Object.values(of)[0].run);
      const [mine, other] = await time(runs, setsFor(rows, cols), seconds, isAsync);
      return { mine, other };
    }
    for (const [variant, { run, check, close }] of Object.entries(found ?? {})) {
      if (only === undefined || only.includes(variant)) {
        [out[variant]] = await time([run], setsFor(rows, cols), seconds, isAsync);
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
