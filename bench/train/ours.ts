// Training steps as a user writes them. `ours.js prepare FOLDER` writes the data all peers read, `ours.js serve FOLDER` answers one task a line.
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { gatherRows, info, kdLoss, nn, optim, rand, randn, readSafetensors, tensor, tidy, writeSafetensors } from '../../src/index.js';
import type { StoredTensor, Tensor } from '../../src/index.js';

const MLP = { rows: 10_000, inputs: 784, hidden: 128, classes: 10, batch: 128 };
const GPT = { layers: 4, width: 128, heads: 4, context: 64, vocabulary: 8192, batch: 16, steps: 4 };

const [, , command, folder = '.'] = process.argv;
const fileOf = (task: string): string => path.join(folder, `${task}.safetensors`);

const stored = (x: Tensor): StoredTensor => ({ dtype: x.dtype, shape: x.shape, data: x.data });

function wholeNumbers(shape: number[], below: number, seed: number): StoredTensor {
  const uniform = rand(shape, { seed }).data as Float32Array;
  return { dtype: 'int32', shape, data: Int32Array.from(uniform, (u) => Math.min(below - 1, Math.floor(u * below))) };
}

const perceptron = (): nn.Module =>
  new nn.Sequential(new nn.Linear(MLP.inputs, MLP.hidden, { seed: 1 }), new nn.ReLU(), new nn.Linear(MLP.hidden, MLP.classes, { seed: 2 }));

const decoder = (): nn.Module => {
  const { layers, width, heads, context, vocabulary } = GPT;
  return new nn.GPT({ layers, width, heads, context, vocabulary, seed: 3 });
};

function weightsOf(model: nn.Module): Record<string, StoredTensor> {
  return Object.fromEntries(Object.entries(model.stateDict()).map(([name, value]) => [`model.${name}`, value]));
}

function prepare(): void {
  mkdirSync(folder, { recursive: true });
  const { rows, inputs, classes } = MLP;
  const keys = rand([rows], { seed: 14 }).data;
  const order = Int32Array.from({ length: rows }, (_, i) => i).sort((a, b) => keys[a]! - keys[b]!);
  writeSafetensors(fileOf('mlp'), {
    ...weightsOf(perceptron()),
    x: stored(rand([rows, inputs], { seed: 11 })),
    teacher: stored(randn([rows, classes], { seed: 12 })),
    labels: wholeNumbers([rows], classes, 13),
    order: { dtype: 'int32', shape: [rows], data: order },
  });
  const { batch, context, vocabulary, steps } = GPT;
  writeSafetensors(fileOf('gpt'), {
    ...weightsOf(decoder()),
    ids: wholeNumbers([steps, batch, context], vocabulary, 15),
    labels: wholeNumbers([steps, batch * context], vocabulary, 16),
    teacher: stored(randn([batch * context, vocabulary], { seed: 17 })),
  });
}

/** One pass over the data of a task; gives the loss of every step. */
interface Task {
  reset(): void;
  run(): number[];
}

function parts(task: string): { data: Map<string, StoredTensor>; weights: Record<string, StoredTensor> } {
  const { tensors } = readSafetensors(fileOf(task));
  const weights: Record<string, StoredTensor> = {};
  for (const [name, value] of tensors) if (name.startsWith('model.')) weights[name.slice('model.'.length)] = value;
  return { data: tensors, weights };
}

function make(x: StoredTensor): Tensor {
  return tensor(x.data, { shape: x.shape, dtype: x.dtype });
}

function mlp(): Task {
  const { data, weights } = parts('mlp');
  const model = perceptron();
  const x = make(data.get('x')!);
  const teacher = make(data.get('teacher')!);
  const labels = make(data.get('labels')!);
  const order = data.get('order')!.data as Int32Array;
  let optimizer: optim.AdamW;
  return {
    reset: () => {
      model.loadStateDict(weights);
      optimizer = new optim.AdamW(model.parameters(), { learningRate: 1e-3, weightDecay: 0 });
    },
    run: () => {
      const losses: number[] = [];
      for (let from = 0; from < MLP.rows; from += MLP.batch) {
        losses.push(
          tidy(() => {
            const rows = tensor(order.subarray(from, from + MLP.batch));
            const logits = model.forward(gatherRows(x, rows));
            const loss = kdLoss(logits, gatherRows(teacher, rows), { temperature: 4, labels: gatherRows(labels, rows), hardWeight: 0.5 });
            loss.backward();
            return loss.item();
          }),
        );
        optimizer.step();
        optimizer.zeroGrad();
      }
      return losses;
    },
  };
}

function gpt(): Task {
  const { data, weights } = parts('gpt');
  const model = decoder();
  const teacher = make(data.get('teacher')!);
  const ids = data.get('ids')!.data as Int32Array;
  const labels = data.get('labels')!.data as Int32Array;
  const size = GPT.batch * GPT.context;
  let optimizer: optim.AdamW;
  return {
    reset: () => {
      model.loadStateDict(weights);
      optimizer = new optim.AdamW(model.parameters(), { learningRate: 3e-4, weightDecay: 0.01 });
    },
    run: () =>
      Array.from({ length: GPT.steps }, (_, step) => {
        const loss = tidy(() => {
          const input = tensor(ids.subarray(step * size, (step + 1) * size), { shape: [GPT.batch, GPT.context] });
          const logits = model.forward(input).reshape([size, GPT.vocabulary]);
          const own = labels.subarray(step * size, (step + 1) * size);
          const total = kdLoss(logits, teacher, { temperature: 2, labels: own, hardWeight: 0.5 });
          total.backward();
          return total.item();
        });
        optimizer.step();
        optimizer.zeroGrad();
        return loss;
      }),
  };
}

const makers: Record<string, () => Task> = { mlp, gpt };
const tasks = new Map<string, Task>();

/** Time by the clock, and of all processors together: the second counts alone where other work runs on the machine. */
function measure(name: string): { ms: number; cpu: number; losses: number[] } {
  let task = tasks.get(name);
  if (task === undefined) tasks.set(name, (task = makers[name]!()));
  task.reset();
  const cpu = process.cpuUsage();
  const begin = performance.now();
  const losses = task.run();
  const ms = performance.now() - begin;
  const { user, system } = process.cpuUsage(cpu);
  return { ms, cpu: (user + system) / 1000, losses };
}

if (command === 'prepare') prepare();
else if (command === 'profile') for (let i = 0; i < 20; i++) console.log(measure(process.argv[4] ?? 'mlp').ms.toFixed(1));
else {
  const { version, instructionSet, threads, matrixProduct } = info();
  console.log(
    `@${JSON.stringify({ ready: `limbeck ${version} (${instructionSet}, ${threads} thread${threads === 1 ? '' : 's'}, products: ${matrixProduct})` })}`,
  );
  createInterface({ input: process.stdin }).on('line', (line) => {
    let reply: object;
    try {
      reply = { variants: { step: measure((JSON.parse(line) as { task: string }).task) } };
    } catch (error) {
      reply = { error: (error as Error).message.split('\n')[0] };
    }
    console.log(`@${JSON.stringify(reply)}`);
  });
}
