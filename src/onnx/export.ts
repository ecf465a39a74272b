// exportOnnx: any module as an ONNX file.
import { checkOneOf, checkOptions, checkShape, checkTensor, checkWhole } from '../check.js';
import { writeWhole } from '../distill/files.js';
import { kindError, phrase, valueError } from '../errors.js';
import { Model, Module } from '../nn/index.js';
import { needed } from '../teachers/lazy.js';
import type { Tensor } from '../tensor.js';
import { OnnxBuilder, type OnnxType, type OnnxValue } from './builder.js';
import { outputsOf, translationOf } from './layers.js';

/** Options of {@link exportOnnx}. */
export interface ExportOnnxOptions {
  /** The shape of one example, without the batch. A ready model knows its own. */
  inputShape?: readonly number[];
  /** A batch to take shape and type from, instead of inputShape and inputType. */
  sample?: Tensor;
  /** Element type of the input. Default: int64 for a model that takes token numbers, float32 for any other. */
  inputType?: OnnxType;
  /** Dimensions of the input, counted with the batch as 0, that may have any extent besides the batch. Default: [1] for token numbers, [] else. */
  dynamic?: readonly number[];
  /** Version of the operators, 17 to 21. Default 17. */
  opset?: number;
  /** Words that go into the file's metadata. */
  metadata?: Record<string, string>;
}

/** What {@link exportOnnx} wrote. */
export interface ExportedOnnx {
  /** Size of the file. */
  bytes: number;
  input: OnnxValue;
  outputs: OnnxValue[];
}

// A message of protocol buffers ends at 2 GiB.
const maxBytes = 2 ** 31 - 2 ** 20;

/**
 * Writes a module as an ONNX model for inference: dropout left out, pruned layers at the size they have, any batch size. The input
 * is `input`, the output `logits`; a MultiExit has `exit_0`, `exit_1`, ... besides, a DualHead `head_0` and `head_1`. The file is
 * written beside its place and renamed.
 *
 * A module of one's own says what it is by a method `[onnxTranslation](builder, x)`.
 *
 * @param model a module whose parameters are float32, on any device
 * @throws LimbeckError `missing_package` without the npm package onnx-proto, `bad_file` where the file cannot be written
 * @throws TypeError for a module that has no translation
 *
 * @example
 * const model = new nn.MLP({ inputs: 784, hidden: [32], outputs: 10, seed: 1 });
 * await exportOnnx(model, 'student.onnx');
 */
export async function exportOnnx(model: Module, path: string, options?: ExportOnnxOptions): Promise<ExportedOnnx> {
  const action = 'export a model';
  if (!(model instanceof Module)) throw kindError(action, 'model must be a Module', model);
  if (typeof path !== 'string' || path === '') throw kindError(action, 'path must be a string', path);
  const {
    opset = 17,
    metadata = {},
    ...rest
  } = checkOptions(action, options, ['inputShape', 'sample', 'inputType', 'dynamic', 'opset', 'metadata']);
  checkWhole(action, 'opset', opset, 17, 21);
  if (metadata === null || typeof metadata !== 'object' || Object.values(metadata).some((value) => typeof value !== 'string'))
    throw kindError(action, 'metadata must be an object of strings', metadata);
  const input = inputOf(action, model, rest);
  const { onnx } = await needed(action, 'onnx-proto', async () => {
    const loaded = (await import('onnx-proto')) as typeof import('onnx-proto') & { default?: typeof import('onnx-proto') };
    return loaded.default ?? loaded;
  });

  const builder = new OnnxBuilder(model, opset, translationOf);
  for (const name of ['input', 'logits']) builder.reserve(name);
  const outputs = outputsOf(builder, model, input);
  if (builder.weightBytes > maxBytes)
    throw valueError(action, 'the weights must fit one file of 2 GiB', phrase(`they have ${builder.weightBytes} bytes`));
  const message = onnx.ModelProto.create({
    irVersion: opset > 18 ? 9 : 8,
    producerName: 'limbeck',
    opsetImport: [{ domain: '', version: opset }],
    graph: builder.graph(model.constructor.name.replace(/^_/, ''), [input], outputs),
    metadataProps: Object.entries(metadata).map(([key, value]) => ({ key, value })),
  });
  const file = onnx.ModelProto.encode(message).finish();
  await writeWhole(path, file);
  return { bytes: file.length, input, outputs: Object.entries(outputs).map(([name, value]) => ({ ...value, name })) };
}

function inputOf(action: string, model: Module, { inputShape, sample, inputType, dynamic }: ExportOnnxOptions): OnnxValue {
  const takesIds = model instanceof Model && model.takesIds;
  let own: readonly number[] | undefined = model instanceof Model ? model.inputShape : undefined;
  let type: OnnxType = takesIds ? 'int64' : 'float32';
  if (sample !== undefined) {
    if (inputShape !== undefined) throw kindError(action, 'inputShape must be left out where a sample is given', inputShape);
    const { shape, dtype } = checkTensor(action, 'sample', sample);
    if (shape.length === 0) throw valueError(action, 'sample must be a batch', phrase('it is a single number'));
    own = shape.slice(1);
    type = dtype === 'int32' ? 'int64' : 'float32';
  } else if (inputShape !== undefined) own = checkShape(action, inputShape);
  if (own === undefined) throw kindError(action, 'inputShape or a sample must be given for this model', inputShape);
  if (inputType !== undefined) type = checkOneOf(action, 'inputType', inputType, ['float32', 'int64']);
  const axes = dynamic ?? (takesIds ? [1] : []);
  if (!Array.isArray(axes)) throw kindError(action, 'dynamic must be numbers of dimensions', axes);
  axes.forEach((axis, i) => checkWhole(action, `dynamic[${i}]`, axis, 0, own.length));
  const shape = own.map((extent, i) => (axes.includes(i + 1) ? (takesIds && i === 0 ? 'tokens' : `extent_${i + 1}`) : extent));
  return { name: 'input', shape: ['batch', ...shape], type };
}
