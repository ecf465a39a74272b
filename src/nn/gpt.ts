// The decoder of GPT-2 as a ready model.
import { checkBoolean, checkFraction, checkNumber, checkOptions, checkTensor, checkWhole } from '../check.js';
import { noGrad, tidy } from '../autograd.js';
import type { Device } from '../device.js';
import { kindError, phrase, shapeText, valueError } from '../errors.js';
import { freshSeed, philox } from '../random.js';
import { add, embedding, gatherRows, linear } from '../ops/index.js';
import type { StoredTensor } from '../safetensors.js';
import { emptyLike, hostCopy, tensor, type Tensor } from '../tensor.js';
import { CausalSelfAttention } from './attention.js';
import { Dropout, Embedding, Linear, runLinear } from './layers.js';
import { placementNames } from './mlp.js';
import { Model, type ModelOutput } from './model.js';
import { Module } from './module.js';
import { LayerNorm } from './norm.js';
import { transposed, type PyTorchEntry } from './pytorch.js';
import { deriveSeed } from './seed.js';

/** The shape of one block. */
export interface GPTBlockConfig {
  heads: number;
  /** Default width/heads of the model. */
  headWidth?: number;
  mlpWidth: number;
}

/** The plain JSON of a {@link GPT}. */
export interface GPTConfig {
  kind: 'gpt';
  /** Tokens there are. */
  vocabulary: number;
  /** The longest sequence. */
  context: number;
  width: number;
  /** How many blocks, all of one shape; or {@link blocks}. */
  layers?: number;
  /** Of every block. */
  heads?: number;
  /** Default width/heads. */
  headWidth?: number;
  /** Hidden units of every block's perceptron. Default 4·width. */
  mlpWidth?: number;
  /** The shape of each block, instead of layers, heads, headWidth and mlpWidth: what pruning leaves. */
  blocks?: GPTBlockConfig[];
  /** Of the embeddings, and of what each half of a block adds. Default 0. */
  dropout?: number;
  /** The output layer is the token embedding. Default true. */
  tied?: boolean;
}

/** Options of {@link GPT}. */
export interface GPTOptions extends Omit<GPTConfig, 'kind'> {
  /** Same seed, same weights, on every device. Default: a fresh one. */
  seed?: number;
  device?: Device;
}

/** Options of {@link GPT.generate}. */
export interface GenerateOptions {
  /** How many tokens to add. */
  tokens: number;
  /** Of the softmax the next token is drawn from; 0 takes the most probable one, the lowest of equals. Default 1. */
  temperature?: number;
  /** Draws among this many of the most probable tokens. Default: all. */
  topK?: number;
  /** The same seed, the same tokens. Default: a fresh one. */
  seed?: number;
}

/** What a {@link GPT} computes of a batch. */
export interface GPTOutput extends ModelOutput {
  /** With `{ attention: true }`: queries, keys and values of each block, [batch, tokens, 3·heads·headWidth]. */
  qkv?: Tensor[];
}

interface BlockShape {
  heads: number;
  headWidth: number;
  mlpWidth: number;
}

/** Normalise, attend, add; normalise, perceptron with GELU, add: x [batch, tokens, width] to the same shape. */
export class GPTBlock extends Module {
  readonly norm1: LayerNorm;
  readonly attention: CausalSelfAttention;
  readonly norm2: LayerNorm;
  readonly up: Linear;
  readonly down: Linear;
  readonly drops: readonly Dropout[];

  /** @internal */
  constructor(width: number, shape: BlockShape, layers: number, dropout: number, seed: number, device?: Device) {
    super();
    const { heads, headWidth, mlpWidth } = checkOptions('make a GPTBlock', shape, ['heads', 'headWidth', 'mlpWidth']);
    // GPT-2: what is added to the residual stream 2·layers times begins that much smaller.
    const residual = deviation / Math.sqrt(2 * layers);
    this.norm1 = new LayerNorm(width, { device });
    this.attention = new CausalSelfAttention({
      width,
      heads,
      headWidth,
      deviation,
      projectionDeviation: residual,
      seed: deriveSeed(seed, 'attention'),
      device,
    });
    this.norm2 = new LayerNorm(width, { device });
    this.up = new Linear(width, mlpWidth, { deviation, seed: deriveSeed(seed, 'up'), device });
    this.down = new Linear(mlpWidth, width, { deviation: residual, seed: deriveSeed(seed, 'down'), device });
    this.drops = dropout === 0 ? [] : [0, 1].map((i) => new Dropout(dropout, { seed: deriveSeed(seed, 'dropout', i) }));
  }

  override forward(x: Tensor): Tensor {
    return this.forwardWithQkv(x).out;
  }

  /** The result together with queries, keys and values. */
  forwardWithQkv(x: Tensor): { out: Tensor; qkv: Tensor } {
    const { out: attended, qkv } = this.attention.forwardWithQkv(this.norm1.forward(x), this.drops[0]);
    return { out: this.#perceptron(add(x, attended)), qkv };
  }

  /**
   * The result for tokens behind those that `known` has, in evaluation: x [tokens, width] to the same shape.
   *
   * @internal
   * @param known queries, keys and values of the text so far, [at or more, 3·heads·headWidth]; those of the new tokens are written behind
   */
  continueText(x: Tensor, known: Tensor, at: number): Tensor {
    return this.#perceptron(add(x, this.attention.continueText(this.norm1.forward(x), known, at)));
  }

  #perceptron(between: Tensor): Tensor {
    const raised = runLinear(this.up, this.norm2.forward(between), 'gelu');
    return add(between, runLinear(this.down, raised, null, this.drops[1]));
  }
}

const deviation = 0.02;

/**
 * A decoder of GPT-2's layout (Radford et al. 2019): token and position embeddings, blocks with the normalisation first, a last
 * normalisation, and logits from the token embedding or an output layer of their own. Ids int32 [batch, tokens], tokens at most
 * `context`, to logits [batch, tokens, vocabulary]. Features: what each block gives, [batch, tokens, width].
 *
 * Weights begin as N(0, 0.02²), those that lead into the residual stream as N(0, 0.02²/(2·layers)).
 *
 * @example
 * const model = new nn.GPT({ vocabulary: 8192, context: 64, layers: 2, heads: 4, width: 64, seed: 1 });
 */
export class GPT extends Model {
  readonly tokens: Embedding;
  readonly positions: Embedding;
  readonly drop: Dropout | null;
  readonly blocks: readonly GPTBlock[];
  readonly norm: LayerNorm;
  /** Null where the token embedding is the output layer. */
  readonly head: Linear | null;

  constructor(options: GPTOptions) {
    super();
    const action = 'make a GPT';
    if (options === undefined) throw kindError(action, 'options must be an object', options);
    const {
      vocabulary,
      context,
      width,
      dropout = 0,
      tied = true,
      seed = freshSeed(),
      device,
    } = checkOptions(action, options, [
      'vocabulary',
      'context',
      'width',
      'layers',
      'heads',
      'headWidth',
      'mlpWidth',
      'blocks',
      'dropout',
      'tied',
      ...placementNames,
    ]);
    checkWhole(action, 'vocabulary', vocabulary, 1, 2 ** 31);
    checkWhole(action, 'context', context, 1, 2 ** 31);
    checkWhole(action, 'width', width, 1, 2 ** 31);
    checkFraction(action, 'dropout', dropout);
    checkBoolean(action, 'tied', tied);
    const shapes = blockShapes(action, options);
    this.tokens = new Embedding(vocabulary, width, { deviation, seed: deriveSeed(seed, 'tokens'), device });
    this.positions = new Embedding(context, width, { deviation, seed: deriveSeed(seed, 'positions'), device });
    this.drop = dropout === 0 ? null : new Dropout(dropout, { seed: deriveSeed(seed, 'dropout') });
    this.blocks = shapes.map((shape, i) => new GPTBlock(width, shape, shapes.length, dropout, deriveSeed(seed, 'block', i), device));
    this.norm = new LayerNorm(width, { device });
    this.head = tied ? null : new Linear(width, vocabulary, { bias: false, deviation, seed: deriveSeed(seed, 'head'), device });
  }

  /** The shape of one example: a sequence as long as the context. */
  override get inputShape(): readonly number[] {
    return [this.context];
  }

  override get takesIds(): boolean {
    return true;
  }

  override get outputs(): number {
    return this.tokens.weight.shape[0]!;
  }

  override get hiddenWidth(): number {
    return this.tokens.weight.shape[1]!;
  }

  /** The longest sequence. */
  get context(): number {
    return this.positions.weight.shape[0]!;
  }

  /** The weight of the output layer, [vocabulary, width]. */
  get outputWeight(): Tensor {
    return this.head?.weight ?? this.tokens.weight;
  }

  override get featureShapes(): number[][] {
    return this.blocks.map(() => [this.context, this.hiddenWidth]);
  }

  override get config(): GPTConfig {
    return {
      kind: 'gpt',
      vocabulary: this.outputs,
      context: this.context,
      width: this.hiddenWidth,
      blocks: this.blocks.map(({ attention, up }) => ({
        heads: attention.heads,
        headWidth: attention.headWidth,
        mlpWidth: up.weight.shape[0]!,
      })),
      dropout: this.drop?.probability ?? 0,
      tied: this.head === null,
    };
  }

  override forwardWithFeatures(ids: Tensor, options?: { attention?: boolean }): GPTOutput {
    const action = 'run a GPT';
    const { attention = false } = checkOptions(action, options, ['attention']);
    checkBoolean(action, 'attention', attention);
    const { hidden, features, qkv } = this.#hidden(action, ids);
    const logits = linear(hidden, this.outputWeight);
    return { logits, features, hidden, ...(attention ? { qkv } : {}) };
  }

  /** All but the output layer. */
  #hidden(action: string, ids: Tensor): { hidden: Tensor; features: Tensor[]; qkv: Tensor[] } {
    checkTensor(action, 'ids', ids);
    if (ids.shape.length !== 2) throw valueError(action, 'ids must have shape [batch, tokens]', phrase(`it has ${shapeText(ids.shape)}`));
    const count = ids.shape[1]!;
    if (count < 1 || count > this.context)
      throw valueError(action, `a sequence must have 1 to ${this.context} tokens`, phrase(`it has ${count}`));
    const positions = this.positions.weight;
    const here =
      count === this.context
        ? positions
        : gatherRows(
            positions,
            Int32Array.from({ length: count }, (_, i) => i),
          );
    let x = add(embedding(this.tokens.weight, ids), here);
    x = this.drop?.forward(x) ?? x;
    const features: Tensor[] = [];
    const all: Tensor[] = [];
    for (const block of this.blocks) {
      const { out, qkv } = block.forwardWithQkv(x);
      features.push(out);
      all.push(qkv);
      x = out;
    }
    return { hidden: this.norm.forward(x), features, qkv: all };
  }

  /** Hugging Face's names of GPT-2, `transformer.` before them or not; its Conv1D weights are [in, out]. Buffers of its masks are no weights. */
  override pyTorchEntry(name: string, stored: StoredTensor): PyTorchEntry {
    const known = name.replace(/^transformer\./, '');
    const [, block, part, kind] = /^h\.(\d+)\.([\w.]+)\.(weight|bias)$/.exec(known) ?? [];
    const ours = part === undefined ? undefined : gpt2Parts[part];
    if (ours !== undefined) {
      const isConv1D = kind === 'weight' && /c_\w+$/.test(part!) && stored.shape.length === 2;
      return [`blocks.${block}.${ours}.${kind}`, isConv1D ? transposed(stored) : stored];
    }
    if (/^h\.\d+\.attn\.(bias|masked_bias)$/.test(known)) return null;
    if (known === 'lm_head.weight' && this.head === null) return null;
    const top = gpt2Names[known];
    return [top ?? name, stored];
  }

  /**
   * Continues a text token by token, each drawn from softmax(logits/temperature) given the last `context` tokens, in evaluation
   * mode. Queries, keys and values are kept until the text is longer than the context; from then on every position moves with each
   * token, and all of them are computed again.
   *
   * @param ids the beginning, at least one token
   * @returns the beginning and what was added
   */
  generate(ids: ArrayLike<number>, options: GenerateOptions): Int32Array {
    const action = 'generate';
    if (options === undefined) throw kindError(action, 'options must be an object', options);
    const {
      tokens,
      temperature = 1,
      topK = this.outputs,
      seed = freshSeed(),
    } = checkOptions(action, options, ['tokens', 'temperature', 'topK', 'seed']);
    if (ids === null || typeof ids !== 'object' || !(ids.length > 0)) throw kindError(action, 'ids must be at least one token number', ids);
    checkWhole(action, 'tokens', tokens);
    if (!(checkNumber(action, 'temperature', temperature) >= 0 && temperature < Infinity))
      throw valueError(action, 'temperature must be at least 0 and finite', temperature);
    checkWhole(action, 'topK', topK, 1);
    checkWhole(action, 'seed', seed);
    const start = Array.from(ids, (id, i) => checkWhole(action, `ids[${i}]`, id, 0, this.outputs - 1));
    const text = new Int32Array(start.length + tokens);
    text.set(start);
    const wasTraining = this.training;
    let known: Tensor[] | undefined;
    this.eval();
    try {
      let done = 0;
      for (let at = start.length; at < text.length; at++) {
        const logits =
          at <= this.context
            ? this.#continued(action, text.subarray(done, at), done, (known ??= this.#room(action, Math.min(this.context, text.length))))
            : this.#nextLogits(action, text.slice(at - this.context, at));
        done = at;
        text[at] = draw(logits, temperature, topK, seed, at);
      }
    } finally {
      known?.forEach((each) => each.dispose());
      this.train(wasTraining);
    }
    return text;
  }

  /** Memory for queries, keys and values of each block. */
  #room(action: string, tokens: number): Tensor[] {
    return this.blocks.map(({ attention }) => emptyLike(attention.qkv.weight, action, [tokens, attention.qkv.weight.shape[0]!]));
  }

  /** The logits behind `ids`, which follow on `at` tokens that `known` has; theirs are added to it. */
  #continued(action: string, ids: Int32Array, at: number, known: readonly Tensor[]): Float32Array {
    return tidy(() =>
      noGrad(() => {
        const positions = Int32Array.from(ids, (_, i) => at + i);
        const tokens = tensor(ids.slice(), { device: this.tokens.weight.device });
        let x = add(embedding(this.tokens.weight, tokens), gatherRows(this.positions.weight, positions));
        this.blocks.forEach((block, i) => (x = block.continueText(x, known[i]!, at)));
        const last = this.norm.forward(gatherRows(x, [ids.length - 1]));
        return hostCopy(linear(last, this.outputWeight), action).slice() as Float32Array;
      }),
    );
  }

  #nextLogits(action: string, ids: Int32Array): Float32Array {
    return tidy(() =>
      noGrad(() => {
        const { hidden } = this.#hidden(action, tensor(ids, { shape: [1, ids.length], device: this.tokens.weight.device }));
        const last = gatherRows(hidden.reshape([ids.length, this.hiddenWidth]), [ids.length - 1]);
        return hostCopy(linear(last, this.outputWeight), action).slice() as Float32Array;
      }),
    );
  }
}

const gpt2Names: Readonly<Record<string, string>> = {
  'wte.weight': 'tokens.weight',
  'wpe.weight': 'positions.weight',
  'ln_f.weight': 'norm.weight',
  'ln_f.bias': 'norm.bias',
  'lm_head.weight': 'head.weight',
};

const gpt2Parts: Readonly<Record<string, string>> = {
  ln_1: 'norm1',
  'attn.c_attn': 'attention.qkv',
  'attn.c_proj': 'attention.projection',
  ln_2: 'norm2',
  'mlp.c_fc': 'up',
  'mlp.c_proj': 'down',
};

function blockShapes(action: string, options: GPTOptions): BlockShape[] {
  const { width, layers, heads, headWidth, mlpWidth, blocks } = options;
  if (blocks === undefined) {
    checkWhole(action, 'layers', layers, 1, 2 ** 20);
    const shape = blockShape(action, '', width, { heads: heads!, headWidth, mlpWidth: mlpWidth ?? 4 * width });
    return Array.from({ length: layers! }, () => shape);
  }
  for (const [name, value] of Object.entries({ layers, heads, headWidth, mlpWidth })) {
    if (value !== undefined) throw kindError(action, `${name} must be left out where blocks are given`, value);
  }
  if (!Array.isArray(blocks) || blocks.length === 0) throw kindError(action, 'blocks must be at least one { heads, mlpWidth }', blocks);
  return blocks.map((block, i) => blockShape(action, `blocks[${i}].`, width, block));
}

function blockShape(action: string, prefix: string, width: number, block: GPTBlockConfig): BlockShape {
  const { heads, headWidth, mlpWidth } = checkOptions(action, block, ['heads', 'headWidth', 'mlpWidth']);
  checkWhole(action, `${prefix}heads`, heads, 1, 2 ** 20);
  checkWhole(action, `${prefix}mlpWidth`, mlpWidth, 1, 2 ** 31);
  if (headWidth === undefined && width % heads !== 0) {
    throw valueError(action, `width must be a multiple of ${prefix}heads (${heads}) where headWidth is left out`, width);
  }
  return { heads, headWidth: checkWhole(action, `${prefix}headWidth`, headWidth ?? width / heads, 1, 256), mlpWidth };
}

// Streams keep the uses of one seed apart; see random.ts.
const generationStream = 16;

function draw(logits: Float32Array, temperature: number, topK: number, seed: number, at: number): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  if (temperature === 0) return best;
  let candidates = Array.from(logits, (_, i) => i);
  if (topK < logits.length) {
    candidates.sort((a, b) => logits[b]! - logits[a]! || a - b);
    candidates = candidates.slice(0, topK);
  }
  const masses = candidates.map((i) => Math.exp((logits[i]! - logits[best]!) / temperature));
  const words = new Uint32Array(4);
  philox(seed, at, generationStream, words);
  let left = (((words[0]! >>> 5) * 2 ** 26 + (words[1]! >>> 6)) / 2 ** 53) * masses.reduce((sum, mass) => sum + mass, 0);
  for (const [i, mass] of masses.entries()) {
    left -= mass;
    if (left < 0) return candidates[i]!;
  }
  return best;
}
