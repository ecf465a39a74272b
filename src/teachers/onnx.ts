// Teachers that are ONNX models, run by ONNX Runtime.
import { checkOptions } from '../check.js';
import { kindError, LimbeckError, phrase, shapeText, valueError, wording } from '../errors.js';
import { hostCopy, Tensor } from '../tensor.js';
import { needed } from './lazy.js';
import { LogitsTeacher, logitsOptionNames, type LogitsOptions, type ModelOutput } from './logits.js';
import { checkFunction } from './teacher.js';

/** One input of a model: a Tensor, numbers with their shape, or a tensor of onnxruntime. */
export type OnnxInput = Tensor | { data: ArrayLike<number> | BigInt64Array | BigUint64Array; dims: readonly number[]; type?: string };

/** A model's inputs by name. */
export type OnnxFeeds = Record<string, OnnxInput>;

/** As much of an `InferenceSession` of onnxruntime as is used. */
export interface OnnxSession {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  run(feeds: Record<string, unknown>, fetches: readonly string[]): Promise<Record<string, unknown>>;
  release(): Promise<void>;
}

/** Options of {@link onnxTeacher}. */
export interface OnnxOptions<B> extends LogitsOptions {
  /** From a batch to the model's inputs. Left out, a batch is the inputs: by name, or the one input itself. */
  inputs?: (batch: B) => OnnxFeeds | Promise<OnnxFeeds>;
  /** The output to learn from, [..., cols]. Default: the model's only one. */
  output?: string;
  /** Passed on to `InferenceSession.create`: execution providers, threads. */
  session?: Record<string, unknown>;
}

/** Made by {@link onnxTeacher}. */
export class OnnxTeacher<B> extends LogitsTeacher<B> {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  readonly #release: () => Promise<void>;

  /** @internal */
  constructor(action: string, session: OnnxSession, isOwn: boolean, run: (batch: B) => Promise<ModelOutput>, options: LogitsOptions) {
    super(action, run, options);
    this.inputNames = session.inputNames;
    this.outputNames = session.outputNames;
    this.#release = async () => {
      if (isOwn) await session.release();
    };
  }

  /** Gives back the model's memory; a session that was passed in stays. */
  async dispose(): Promise<void> {
    await this.#release();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }
}

/**
 * A teacher that is an ONNX model. Needs the package onnxruntime-node.
 *
 * Inputs are limbeck Tensors (float32, float16, float64, int32, uint8) or `{ data, dims }`; int32 becomes int64 where the model wants that.
 * The output is [..., cols], logits unless `values` says otherwise: many exported classifiers end in a softmax.
 *
 * @param model a path, the bytes of a file, or an InferenceSession of onnxruntime
 * @throws LimbeckError `missing_package` where onnxruntime-node is not there, `bad_file` where the model cannot be loaded, `bad_output`
 *
 * @example
 * const teacher = await onnxTeacher('model.onnx', { access: 'topk', k: 16 });
 * for await (const { target } of teacher.targets(images.map((x) => ({ x })))) saveTargets(...);
 */
export async function onnxTeacher<B = OnnxFeeds | OnnxInput>(
  model: string | Uint8Array | OnnxSession,
  options?: OnnxOptions<B>,
): Promise<OnnxTeacher<B>> {
  const action = 'make an ONNX teacher';
  const {
    inputs,
    output,
    session: sessionOptions,
    ...rest
  } = checkOptions(action, options, [...logitsOptionNames, 'inputs', 'output', 'session']);
  checkFunction(action, 'inputs', inputs);
  const isModel = typeof model === 'string' || model instanceof Uint8Array;
  if (!isModel && typeof (model as Partial<OnnxSession> | null)?.run !== 'function')
    throw kindError(action, 'model must be a path, bytes or an InferenceSession', model);
  const runtime = await needed(action, 'onnxruntime-node', loadRuntime);
  const session = isModel ? await open(runtime, model, sessionOptions) : model;
  try {
    return makeTeacher(action, runtime, session, isModel, { inputs, output, ...rest });
  } catch (error) {
    if (isModel) await session.release();
    throw error;
  }
}

function makeTeacher<B>(
  action: string,
  runtime: Runtime,
  session: OnnxSession,
  isOwn: boolean,
  { inputs, output, ...rest }: Omit<OnnxOptions<B>, 'session'>,
): OnnxTeacher<B> {
  const name = output ?? session.outputNames[0]!;
  if (output === undefined && session.outputNames.length !== 1)
    throw valueError(action, 'output must be named where a model has several', phrase(`they are ${session.outputNames.join(', ')}`));
  if (!session.outputNames.includes(name)) throw valueError(action, `output must be among ${session.outputNames.join(', ')}`, output);
  const wanted = inputTypes(session);
  const run = async (batch: B): Promise<ModelOutput> => {
    const feeds = feedsOf('run an ONNX teacher', inputs === undefined ? batch : await inputs(batch), session, wanted, runtime);
    let results: Record<string, unknown>;
    try {
      results = await session.run(feeds, [name]);
    } catch (error) {
      throw new LimbeckError('bad_output', wording('run an ONNX teacher', 'the model must accept its inputs', (error as Error).message), {
        cause: error,
      });
    }
    return results[name] as ModelOutput;
  };
  return new OnnxTeacher(action, session, isOwn, run, rest);
}

type Runtime = typeof import('onnxruntime-node');

async function loadRuntime(): Promise<Runtime> {
  const loaded = (await import('onnxruntime-node')) as Runtime & { default?: Runtime };
  return loaded.default ?? loaded;
}

async function open(runtime: Runtime, model: string | Uint8Array, options?: Record<string, unknown>): Promise<OnnxSession> {
  try {
    const session = await runtime.InferenceSession.create(model as string, options);
    return session as unknown as OnnxSession;
  } catch (error) {
    const what = typeof model === 'string' ? model : 'the bytes of the model';
    throw new LimbeckError(
      'bad_file',
      `Cannot read ${what}: it must be an ONNX model that this ONNX Runtime can load: ${(error as Error).message}`,
      {
        cause: error,
      },
    );
  }
}

/** Element types of a model's inputs, where the session says them. */
function inputTypes(session: OnnxSession): Map<string, string> {
  const metadata = (session as { inputMetadata?: readonly { name: string; type?: string }[] }).inputMetadata ?? [];
  return new Map(metadata.flatMap(({ name, type }) => (type === undefined ? [] : [[name, type] as const])));
}

function isInput(value: unknown): value is OnnxInput {
  return (
    value instanceof Tensor ||
    (Array.isArray((value as { dims?: unknown } | null)?.dims) && (value as { data?: unknown }).data !== undefined)
  );
}

function feedsOf(
  action: string,
  batch: unknown,
  session: OnnxSession,
  wanted: Map<string, string>,
  runtime: Runtime,
): Record<string, unknown> {
  const { inputNames } = session;
  if (isInput(batch)) {
    if (inputNames.length !== 1)
      throw valueError(action, 'a batch must name its inputs where a model has several', phrase(`they are ${inputNames.join(', ')}`));
    batch = { [inputNames[0]!]: batch };
  }
  if (batch === null || typeof batch !== 'object')
    throw kindError(action, 'a batch must be inputs by name, or the options must have inputs', batch);
  const feeds: Record<string, unknown> = {};
  for (const name of Object.keys(batch))
    if (!inputNames.includes(name)) throw valueError(action, `inputs must be among ${inputNames.join(', ')}`, name);
  for (const name of inputNames) {
    const value = (batch as Record<string, unknown>)[name];
    if (!isInput(value)) throw kindError(action, `input '${name}' must be a Tensor or { data, dims }`, value);
    feeds[name] = ortTensor(action, name, value, wanted.get(name), runtime);
  }
  return feeds;
}

const arrays: Readonly<Record<string, new (values: Iterable<number>) => ArrayBufferView>> = {
  float32: Float32Array,
  float64: Float64Array,
  int32: Int32Array,
  uint8: Uint8Array,
  int8: Int8Array,
};

function ortTensor(action: string, name: string, value: OnnxInput, wanted: string | undefined, runtime: Runtime): unknown {
  if (value instanceof runtime.Tensor) return value;
  const dims = value instanceof Tensor ? value.shape : value.dims;
  const data = value instanceof Tensor ? hostCopy(value, action) : value.data;
  const size = dims.reduce((product, extent) => product * extent, 1);
  if (data.length !== size)
    throw valueError(
      action,
      `input '${name}' must have the ${size} elements of its shape ${shapeText(dims)}`,
      phrase(`it has ${data.length}`),
    );
  const own = value instanceof Tensor ? value.dtype : value.type;
  const type = wanted ?? own ?? (data instanceof BigInt64Array ? 'int64' : 'float32');
  const made = (type === 'int64' || type === 'uint64') && !(data instanceof BigInt64Array) && !(data instanceof BigUint64Array);
  const Typed = arrays[type];
  const given = made
    ? (type === 'int64' ? BigInt64Array : BigUint64Array).from(Array.from(data as ArrayLike<number>, (x) => BigInt(x)))
    : Typed === undefined || data instanceof Typed
      ? data
      : new Typed(data as Iterable<number>);
  try {
    return new runtime.Tensor(type as 'float32', given as Float32Array, [...dims]);
  } catch (error) {
    throw kindError(action, `input '${name}' must be ${type}`, phrase((error as Error).message));
  }
}
