// The examples for node-llama-cpp and transformers.js, each on a small model written here; skipped where the package is not installed.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { captureTopK, tensor, type DenseTarget, type SparseTarget, type Tensor } from '../src/index.js';
import type { LogitsOptions, LogitsTeacher } from '../src/teachers/index.js';
import { constant, input, node, onnxModel, output } from './onnx_writer.js';

const folder = mkdtempSync(path.join(os.tmpdir(), 'limbeck-models-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const require = createRequire(import.meta.url);
function isInstalled(name: string): boolean {
  try {
    require.resolve(`${name}/package.json`);
    return true;
  } catch (error) {
    // A package that does not export it is there.
    return (error as NodeJS.ErrnoException).code === 'ERR_PACKAGE_PATH_NOT_EXPORTED';
  }
}

const numbers = (x: Tensor | null): number[] => Array.from((x as Tensor).data as Float32Array);

/** Numbers between −1 and 1 that look random. */
const noise = (length: number, seed: number): number[] => Array.from({ length }, (_, i) => Math.sin(12.9898 * (i + 1) + 78.233 * seed));

/** A llama of one block with 32 channels in the GGUF format. */
function tinyLlama(vocabulary: string[]): Buffer {
  const u32 = (value: number): Buffer => Buffer.from(Uint32Array.of(value).buffer);
  const u64 = (value: number): Buffer => Buffer.from(BigUint64Array.of(BigInt(value)).buffer);
  const f32 = (...values: number[]): Buffer => Buffer.from(Float32Array.from(values).buffer);
  const text = (value: string): Buffer => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);
  const list = (type: number, values: Buffer[]): Buffer => Buffer.concat([u32(9), u32(type), u64(values.length), ...values]);
  const keys: [string, Buffer][] = [
    ['general.architecture', Buffer.concat([u32(8), text('llama')])],
    ...Object.entries({
      'llama.context_length': 128,
      'llama.embedding_length': 32,
      'llama.block_count': 1,
      'llama.feed_forward_length': 64,
      'llama.attention.head_count': 4,
      'llama.rope.dimension_count': 8,
      'tokenizer.ggml.bos_token_id': 1,
      'tokenizer.ggml.eos_token_id': 2,
      'tokenizer.ggml.unknown_token_id': 0,
    }).map(([key, value]): [string, Buffer] => [key, Buffer.concat([u32(4), u32(value)])]),
    ['llama.attention.layer_norm_rms_epsilon', Buffer.concat([u32(6), f32(1e-5)])],
    ['tokenizer.ggml.model', Buffer.concat([u32(8), text('llama')])],
    ['tokenizer.ggml.tokens', list(8, vocabulary.map(text))],
    [
      'tokenizer.ggml.scores',
      list(
        6,
        vocabulary.map((_, i) => f32(-i)),
      ),
    ],
    // Unknown, control, bytes, and the rest.
    [
      'tokenizer.ggml.token_type',
      list(
        5,
        vocabulary.map((token, i) => u32(i === 0 ? 2 : i < 3 ? 3 : token.startsWith('<0x') ? 6 : 1)),
      ),
    ],
  ];
  const V = vocabulary.length;
  const tensors: [string, number[]][] = [
    ['token_embd.weight', [32, V]],
    ['output_norm.weight', [32]],
    ['output.weight', [32, V]],
    ['blk.0.attn_norm.weight', [32]],
    ['blk.0.attn_q.weight', [32, 32]],
    ['blk.0.attn_k.weight', [32, 32]],
    ['blk.0.attn_v.weight', [32, 32]],
    ['blk.0.attn_output.weight', [32, 32]],
    ['blk.0.ffn_norm.weight', [32]],
    ['blk.0.ffn_gate.weight', [32, 64]],
    ['blk.0.ffn_up.weight', [32, 64]],
    ['blk.0.ffn_down.weight', [64, 32]],
  ];
  let offset = 0;
  const infos: Buffer[] = [];
  const data: Buffer[] = [];
  tensors.forEach(([name, dims], seed) => {
    const size = dims.reduce((product, extent) => product * extent, 1);
    infos.push(text(name), u32(dims.length), ...dims.map(u64), u32(0), u64(offset));
    data.push(f32(...noise(size, seed).map((value) => (dims.length === 1 ? 1 : value))));
    offset += 4 * size;
  });
  const head = Buffer.concat([
    Buffer.from('GGUF'),
    u32(3),
    u64(tensors.length),
    u64(keys.length),
    ...keys.flatMap(([key, value]) => [text(key), value]),
    ...infos,
  ]);
  return Buffer.concat([head, Buffer.alloc((32 - (head.length % 32)) % 32), ...data]);
}

describe('examples/llama.mjs', () => {
  it.skipIf(!isInstalled('node-llama-cpp'))('captures what a GGUF model says', async () => {
    const bytes = Array.from({ length: 256 }, (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, '0')}>`);
    const vocabulary = ['<unk>', '<s>', '</s>', ...bytes, '▁the', '▁cat', '▁sat'];
    const file = path.join(folder, 'tiny.gguf');
    writeFileSync(file, tinyLlama(vocabulary));
    const { llamaTeacher } = (await import('../examples/llama.mjs' as string)) as {
      llamaTeacher(path: string, options: LogitsOptions): Promise<{ teacher: LogitsTeacher<number[]>; dispose(): Promise<void> }>;
    };
    const batches = [[1, 259, 260], [1, 261]]; // prettier-ignore
    const rows: number[][] = [];
    const { teacher, dispose } = await llamaTeacher(file, { access: 'full' });
    for await (const { target } of teacher.targets(batches)) {
      const { values } = target as DenseTarget;
      expect(values.shape[1]).toBe(262);
      for (let row = 0; row < values.shape[0]!; row++) rows.push(numbers(values).slice(262 * row, 262 * (row + 1)));
    }
    await dispose();
    expect(rows).toHaveLength(5);
    // Whole rows: a sampler's cuts would leave zeros.
    for (const row of rows) expect(Math.min(...row)).toBeGreaterThan(0);
    // The same first token says the same in both, and another one something else.
    expect(rows[3]).toEqual(rows[0]);
    expect(rows[4]).not.toEqual(rows[1]);
  });
});

describe('examples/transformers.mjs', () => {
  it.skipIf(!isInstalled('@huggingface/transformers'))('captures what a causal language model says', async () => {
    // A bigram model: the logits after a token are its row of a table.
    const table = noise(7 * 7, 3).map((value) => 3 * value);
    mkdirSync(path.join(folder, 'bigram', 'onnx'), { recursive: true });
    const config = { model_type: 'llama', architectures: ['LlamaForCausalLM'], vocab_size: 7, hidden_size: 8, num_attention_heads: 1, num_hidden_layers: 0, num_key_value_heads: 1 }; // prettier-ignore
    writeFileSync(path.join(folder, 'bigram', 'config.json'), JSON.stringify(config));
    const graph = [node('Gather', ['table', 'input_ids'], 'logits'), constant('table', [7, 7], table)];
    writeFileSync(
      path.join(folder, 'bigram', 'onnx', 'model.onnx'),
      onnxModel(...graph, input('input_ids', 'int64'), output('logits', 'float32', 3)),
    );
    const name = '@huggingface/transformers';
    const { AutoModelForCausalLM, env } = (await import(name)) as {
      AutoModelForCausalLM: { from_pretrained(name: string, options: object): Promise<{ dispose(): Promise<unknown> }> };
      env: Record<string, unknown>;
    };
    Object.assign(env, { localModelPath: folder, allowRemoteModels: false });
    const { transformersTeacher } = (await import('../examples/transformers.mjs' as string)) as {
      transformersTeacher(model: object, options: LogitsOptions): LogitsTeacher<number[]>;
    };
    const model = await AutoModelForCausalLM.from_pretrained('bigram', { dtype: 'fp32' });
    const tokens = [3, 0, 6];
    const rows = captureTopK(tensor(tokens.map((token) => table.slice(7 * token, 7 * token + 7))), 4);
    for await (const { target } of transformersTeacher(model, { access: 'topk', k: 4 }).targets([tokens])) {
      expect(numbers((target as SparseTarget).indices)).toEqual(numbers(rows.indices));
      numbers((target as SparseTarget).logProbs).forEach((value, i) => expect(value).toBeCloseTo(numbers(rows.logProbs)[i]!, 5));
    }
    await model.dispose();
  });
});
