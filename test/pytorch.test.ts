// Weights that PyTorch programs wrote, and ours read by PyTorch.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LimbeckError, nn, randn, tensor, writeSafetensors, type StoredTensor, type Tensor } from '../src/index.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'limbeck-pytorch-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const rows = (x: Tensor): number[] => Array.from(x.data);
const float32 = (shape: number[], data: ArrayLike<number>): StoredTensor => ({ dtype: 'float32', shape, data: Float32Array.from(data) });

/** Any tensors as safetensors, in dtypes that limbeck does not write, too. */
function writeRaw(file: string, tensors: Record<string, { dtype: string; shape: number[]; bytes: Uint8Array }>): void {
  let offset = 0;
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } };
  for (const [name, { dtype, shape, bytes }] of Object.entries(tensors))
    header[name] = { dtype, shape, data_offsets: [offset, (offset += bytes.length)] };
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  writeFileSync(file, Buffer.concat([length, text, ...Object.values(tensors).map(({ bytes }) => bytes)]));
}

const bytesOf = (array: Float32Array | Uint16Array | BigInt64Array): Uint8Array => new Uint8Array(array.buffer);

const gptOptions = { vocabulary: 13, context: 6, width: 8, layers: 2, heads: 2, mlpWidth: 10 };
const ids = tensor(Int32Array.from([1, 5, 12, 0, 3, 3, 7, 2]), { shape: [2, 4] });

/** A model's state under the names and in the layout of Hugging Face's GPT-2. */
function asGPT2(state: Record<string, StoredTensor>, prefix = 'transformer.'): Record<string, StoredTensor> {
  const parts: [RegExp, string][] = [
    [/^tokens/, 'wte'],
    [/^positions/, 'wpe'],
    [/^norm\./, 'ln_f.'],
    [/^blocks\.(\d+)\.norm(\d)/, 'h.$1.ln_$2'],
    [/^blocks\.(\d+)\.attention\.qkv/, 'h.$1.attn.c_attn'],
    [/^blocks\.(\d+)\.attention\.projection/, 'h.$1.attn.c_proj'],
    [/^blocks\.(\d+)\.up/, 'h.$1.mlp.c_fc'],
    [/^blocks\.(\d+)\.down/, 'h.$1.mlp.c_proj'],
  ];
  return Object.fromEntries(
    Object.entries(state).map(([name, stored]) => {
      const [from, to] = parts.find(([pattern]) => pattern.test(name))!;
      const theirs = prefix + name.replace(from, to);
      if (!/c_\w+\.weight/.test(theirs)) return [theirs, stored];
      const [outputs, inputs] = stored.shape as [number, number];
      const turned = Float32Array.from(
        { length: outputs * inputs },
        (_, i) => stored.data[(i % outputs) * inputs + Math.floor(i / outputs)]!,
      );
      return [theirs, float32([inputs, outputs], turned)];
    }),
  );
}

describe('loadPyTorch', () => {
  const mlp = (): nn.MLP => new nn.MLP({ inputs: 3, hidden: [4], outputs: 2, seed: 1 });
  const file = (name: string): string => join(folder, `${name}.safetensors`);

  it('renames what names begin with, and takes Linear weights as they are', () => {
    const from = new nn.MLP({ inputs: 3, hidden: [4], outputs: 2, seed: 9 });
    const theirs = Object.fromEntries(
      Object.entries(from.stateDict()).map(([name, stored]) => [name.replace('layers.0', 'fc1').replace('layers.2', 'fc10'), stored]),
    );
    writeSafetensors(file('fc'), theirs);
    const model = mlp();
    expect(model.loadPyTorch(file('fc'), { rename: { fc1: 'layers.0', fc10: 'layers.2' } })).toEqual({ missing: [], unused: [] });
    expect(model.stateDict()).toEqual(from.stateDict());
    const again = mlp();
    again.loadPyTorch(file('fc'), { rename: (name) => name.replace('fc10', 'layers.2').replace('fc1', 'layers.0') });
    expect(again.stateDict()).toEqual(from.stateDict());
  });

  it('widens half types and passes over whole numbers of 64 bits', () => {
    const layer = new nn.Linear(2, 1, { seed: 1 });
    writeRaw(file('half'), {
      steps: { dtype: 'I64', shape: [1], bytes: bytesOf(BigInt64Array.from([7n])) },
      weight: { dtype: 'F16', shape: [1, 2], bytes: bytesOf(Uint16Array.from([0x3e00, 0xc000])) },
      bias: { dtype: 'BF16', shape: [1], bytes: bytesOf(Uint16Array.from([0x4040])) },
    });
    expect(() => layer.loadPyTorch(file('half'))).toThrow(/the file's 'steps' must have a place in the model/);
    expect(layer.loadPyTorch(file('half'), { strict: false })).toEqual({ missing: [], unused: ['steps'] });
    expect([rows(layer.weight), rows(layer.bias!)]).toEqual([[1.5, -2], [3]]);
    expect(layer.loadPyTorch(file('half'), { rename: (name) => (name === 'steps' ? null : name) }).unused).toEqual([]);
  });

  it('lists what is missing, left over and of another shape, and changes nothing', () => {
    writeSafetensors(file('wrong'), { 'layers.0.weight': float32([4, 3], new Float32Array(12)), 'head.weight': float32([1], [1]) });
    const model = mlp();
    const before = model.stateDict();
    const error = (() => {
      try {
        model.loadPyTorch(file('wrong'));
      } catch (thrown) {
        return thrown as LimbeckError;
      }
      throw new Error('it was loaded');
    })();
    expect(error).toBeInstanceOf(LimbeckError);
    expect(error.code).toBe('bad_file');
    expect(error.message).toContain("the model's 'layers.0.bias', 'layers.2.weight', 'layers.2.bias' must be in the file");
    expect(error.message).toContain("the file's 'head.weight' must have a place in the model");
    expect(model.stateDict()).toEqual(before);

    writeSafetensors(file('shape'), { ...before, 'layers.2.weight': float32([4, 2], new Float32Array(8)) });
    expect(() => model.loadPyTorch(file('shape'), { strict: false })).toThrow(/'layers.2.weight' is float32 \[4, 2\], 'layers.2.weight' is float32 \[2, 4\]/); // prettier-ignore
    writeSafetensors(file('twice'), { ...before, other: before['layers.0.bias']! });
    expect(() => model.loadPyTorch(file('twice'), { rename: { other: 'layers.0.bias' } })).toThrow(/'other' is 'layers.0.bias', which another tensor is, too|'layers.0.bias' is 'layers.0.bias', which another/); // prettier-ignore
    writeSafetensors(file('nothing'), { other: float32([1], [1]) });
    expect(() => model.loadPyTorch(file('nothing'), { strict: false })).toThrow(/at least one parameter/);
    expect(() => model.loadPyTorch(file('fc'), { rename: 1 as never })).toThrow(TypeError);
    expect(model.stateDict()).toEqual(before);
  });

  it('takes a part where strict is off, and says which', () => {
    const model = mlp();
    const before = model.stateDict();
    writeSafetensors(file('part'), { 'layers.0.bias': float32([4], [1, 2, 3, 4]), more: float32([1], [0]) });
    expect(model.loadPyTorch(file('part'), { strict: false })).toEqual({
      missing: ['layers.0.weight', 'layers.2.weight', 'layers.2.bias'],
      unused: ['more'],
    });
    expect(model.stateDict()).toEqual({ ...before, 'layers.0.bias': float32([4], [1, 2, 3, 4]) });
  });

  it.each(['transformer.', ''])("knows GPT-2's names and transposed weights, prefix '%s'", (prefix) => {
    const from = new nn.GPT({ ...gptOptions, seed: 9 });
    const mask = float32([1, 1, 6, 6], new Float32Array(36));
    writeSafetensors(file('gpt2'), {
      ...asGPT2(from.stateDict(), prefix),
      [`${prefix}h.0.attn.bias`]: mask,
      'lm_head.weight': from.stateDict()['tokens.weight']!,
    });
    const model = new nn.GPT({ ...gptOptions, seed: 1 });
    expect(model.loadPyTorch(file('gpt2'))).toEqual({ missing: [], unused: [] });
    expect(rows(model.forward(ids))).toEqual(rows(from.forward(ids)));
    const untied = new nn.GPT({ ...gptOptions, tied: false, seed: 1 });
    untied.loadPyTorch(file('gpt2'));
    expect(rows(untied.forward(ids))).toEqual(rows(from.forward(ids)));
  });
});

/** The first Python that has the modules. */
const pythonWith = (modules: string): string | undefined =>
  ['python3', '/usr/bin/python3'].find((each) => spawnSync(each, ['-c', `import ${modules}`], { stdio: 'ignore' }).status === 0);

const withSafetensors = pythonWith('safetensors.numpy, numpy');

describe.skipIf(withSafetensors === undefined)("Python's safetensors", () => {
  it('reads ours, and what it writes is read here', () => {
    const model = new nn.GPT({ ...gptOptions, seed: 4 });
    const [ours, theirs] = ['ours', 'theirs'].map((name) => join(folder, `${name}.safetensors`)) as [string, string];
    model.save(ours, { note: 'kept' });
    const script = `
import json, sys
from safetensors import safe_open
from safetensors.numpy import save_file
with safe_open(sys.argv[1], 'numpy') as f:
    tensors = {name: f.get_tensor(name) for name in f.keys()}
    print(json.dumps([f.metadata(), {name: [list(t.shape), float(t.astype('float64').sum())] for name, t in tensors.items()}]))
save_file({'model.' + name: t for name, t in tensors.items()}, sys.argv[2])
`;
    const { stdout, stderr, status } = spawnSync(withSafetensors!, ['-c', script, ours, theirs], { encoding: 'utf8' });
    expect(status, stderr).toBe(0);
    const [metadata, found] = JSON.parse(stdout) as [Record<string, string>, Record<string, [number[], number]>];
    expect(metadata['note']).toBe('kept');
    expect(JSON.parse(metadata['limbeck.config']!)).toEqual(model.config);
    const state = model.stateDict();
    expect(Object.keys(found).sort()).toEqual(Object.keys(state).sort());
    for (const [name, [shape, sum]] of Object.entries(found)) {
      expect(shape).toEqual(state[name]!.shape);
      expect(sum).toBeCloseTo(
        Array.from(state[name]!.data).reduce((total, value) => total + value, 0),
        9,
      );
    }
    const again = new nn.GPT({ ...gptOptions, seed: 5 });
    again.loadPyTorch(theirs, { rename: (name) => name.replace(/^model\./, '') });
    expect(again.stateDict()).toEqual(state);
  }, 60_000);
});

const withTorch = pythonWith('torch, numpy');

/** GPT-2 and a perceptron in plain PyTorch, on files read by the safetensors package where it is there, else by the format's few lines. */
const program = `
import json, math, struct, sys
import numpy as np, torch, torch.nn.functional as F
def read(path):
    try:
        from safetensors.torch import load_file
        return load_file(path)
    except ImportError:
        raw = open(path, 'rb').read()
        n = struct.unpack('<Q', raw[:8])[0]
        header = json.loads(raw[8:8 + n])
        header.pop('__metadata__', None)
        take = lambda e: torch.tensor(np.frombuffer(raw, '<f4', (e['data_offsets'][1] - e['data_offsets'][0]) // 4, 8 + n + e['data_offsets'][0]).reshape(e['shape']))
        return {k: take(e) for k, e in header.items()}
folder = sys.argv[1]
x = torch.tensor(json.load(open(folder + '/x.json')))
w = read(folder + '/mlp.safetensors')
mlp = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.GELU(), torch.nn.Linear(4, 2))
mlp.load_state_dict({k.replace('layers.', ''): v for k, v in w.items()})
w = read(folder + '/cnn.safetensors')
image = x.flatten()[:40].reshape(1, 1, 5, 8)
h = F.max_pool2d(F.relu(F.conv2d(image, w['convolutions.0.weight'], w['convolutions.0.bias'], padding=1)), 2)
cnn = F.linear(h.flatten(1), w['output.weight'], w['output.bias'])
w = read(folder + '/gpt2.safetensors')
ids = torch.tensor([[1, 5, 12, 0], [3, 3, 7, 2]])
conv1d = lambda v, name: v @ w[name + '.weight'] + w[name + '.bias']
norm = lambda v, name: F.layer_norm(v, (8,), w[name + '.weight'], w[name + '.bias'])
h = w['wte.weight'][ids] + w['wpe.weight'][:4]
for i in range(2):
    b = 'h.%d.' % i
    q, k, v = [t.reshape(2, 4, 2, 4).transpose(1, 2) for t in conv1d(norm(h, b + 'ln_1'), b + 'attn.c_attn').split(8, -1)]
    scores = (q @ k.transpose(-1, -2) / math.sqrt(4)).masked_fill(torch.ones(4, 4).triu(1).bool(), -math.inf)
    h = h + conv1d((scores.softmax(-1) @ v).transpose(1, 2).reshape(2, 4, 8), b + 'attn.c_proj')
    h = h + conv1d(F.gelu(conv1d(norm(h, b + 'ln_2'), b + 'mlp.c_fc')), b + 'mlp.c_proj')
gpt = norm(h, 'ln_f') @ w['wte.weight'].T
print(json.dumps([v.detach().flatten().tolist() for v in (mlp(x), cnn, gpt)]))
`;

describe.skipIf(withTorch === undefined)('PyTorch on the same files', () => {
  it('computes the same logits: MLP, CNN, GPT', () => {
    const stir = <M extends nn.Module>(model: M): M => {
      for (const [i, parameter] of model.parameters().entries()) {
        const noise = randn(parameter.shape, { seed: i }).data;
        parameter.data.forEach((value, j) => (parameter.data[j] = value + 0.3 * noise[j]!));
      }
      return model;
    };
    const x = randn([16, 3], { seed: 3 });
    writeFileSync(join(folder, 'x.json'), JSON.stringify(Array.from({ length: 16 }, (_, r) => rows(x).slice(3 * r, 3 * r + 3))));
    const mlp = stir(new nn.MLP({ inputs: 3, hidden: [4], outputs: 2, activation: 'gelu', seed: 1 }));
    const cnn = stir(new nn.CNN({ inputShape: [1, 5, 8], channels: [3], classes: 4, seed: 1 }));
    const gpt = stir(new nn.GPT({ ...gptOptions, seed: 1 }));
    mlp.save(join(folder, 'mlp.safetensors'));
    cnn.save(join(folder, 'cnn.safetensors'));
    writeSafetensors(join(folder, 'gpt2.safetensors'), asGPT2(gpt.stateDict(), ''));
    const { stdout, stderr, status } = spawnSync(withTorch!, ['-c', program, folder], { encoding: 'utf8' });
    expect(status, stderr).toBe(0);
    const theirs = JSON.parse(stdout) as number[][];
    const image = tensor(Float32Array.from(rows(x).slice(0, 40)), { shape: [1, 40] });
    [mlp.forward(x), cnn.forward(image), gpt.forward(ids)].map(rows).forEach((ours, m) => {
      expect(ours).toHaveLength(theirs[m]!.length);
      ours.forEach((value, i) => expect(Math.abs(value - theirs[m]![i]!)).toBeLessThan(1e-4));
    });
  }, 60_000);
});
