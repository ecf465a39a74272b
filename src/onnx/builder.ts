// A graph of ONNX under construction: values with shapes, nodes, weights, and the modules they come from.
import { kindError, phrase, shapeText, valueError } from '../errors.js';
import type { Module } from '../nn/index.js';
import { bytesOf } from '../safetensors.js';
import { hostCopy, type Tensor } from '../tensor.js';

/** An extent, or the name of one that is known when the model runs. */
export type OnnxExtent = number | string;

/** What a node makes or an input brings. */
export interface OnnxValue {
  readonly name: string;
  readonly shape: readonly OnnxExtent[];
  readonly type: OnnxType;
}

export type OnnxType = 'float32' | 'int64';

/** Whole numbers, fractions (`{ float }`), words and lists, as the operator wants them. */
export type OnnxAttribute = number | { float: number } | string | readonly number[];

/** The name of the method by which a module of one's own says what it is in ONNX: `[onnxTranslation](builder, x)` gives a value back. */
export const onnxTranslation: unique symbol = Symbol.for('limbeck.onnxTranslation') as never;

/** A module that translates itself. */
export interface OnnxTranslated {
  [onnxTranslation](builder: OnnxBuilder, x: OnnxValue): OnnxValue;
}

/** From a module and its input to its output. */
export type Translation = (builder: OnnxBuilder, module: never, x: OnnxValue) => OnnxValue;

// Numbers of TensorProto.DataType and AttributeProto.AttributeType.
const elementTypes = { float32: 1, int64: 7 } as const;
const attributeTypes = { float: 1, int: 2, string: 3, ints: 7 } as const;

function attributeOf([name, value]: [string, OnnxAttribute]): object {
  if (typeof value === 'string') return { name, type: attributeTypes.string, s: new TextEncoder().encode(value) };
  if (typeof value === 'number') return { name, type: attributeTypes.int, i: value };
  if ('float' in value) return { name, type: attributeTypes.float, f: value.float };
  return { name, type: attributeTypes.ints, ints: [...value] };
}

function valueInfo({ name, shape, type }: OnnxValue): object {
  const dim = shape.map((extent) => (typeof extent === 'number' ? { dimValue: extent } : { dimParam: extent }));
  return { name, type: { tensorType: { elemType: elementTypes[type], shape: { dim } } } };
}

/** Builds one graph. Modules that translate themselves are given one. */
export class OnnxBuilder {
  /** The version of the operators, at least 17. */
  readonly opset: number;
  /** Bytes of the weights so far. */
  weightBytes = 0;
  readonly #translationOf: (module: Module) => Translation | undefined;
  readonly #names: Map<Tensor, string>;
  readonly #weights = new Map<Tensor | string, OnnxValue>();
  readonly #memo = new Map<string, OnnxValue>();
  readonly #nodes: object[] = [];
  readonly #initializers: object[] = [];
  readonly #used = new Map<string, number>();
  readonly #scope: string[] = [];

  /** @internal */
  constructor(root: Module, opset: number, translationOf: (module: Module) => Translation | undefined) {
    this.opset = opset;
    this.#translationOf = translationOf;
    this.#names = new Map([...root.namedParameters()].map(([name, parameter]) => [parameter, name]));
  }

  /**
   * One operator with one output, of the first input's element type.
   *
   * @param operator its name in ONNX
   * @param shape of the output
   */
  node(
    operator: string,
    inputs: readonly OnnxValue[],
    shape: readonly OnnxExtent[],
    attributes: Record<string, OnnxAttribute> = {},
  ): OnnxValue {
    return this.nodes(operator, inputs, [shape], attributes)[0]!;
  }

  /** One operator with as many outputs as shapes. */
  nodes(
    operator: string,
    inputs: readonly OnnxValue[],
    shapes: readonly (readonly OnnxExtent[])[],
    attributes: Record<string, OnnxAttribute> = {},
    type: OnnxType = inputs[0]?.type ?? 'float32',
  ): OnnxValue[] {
    const name = this.#unused([...this.#scope, operator].join('/'));
    const outputs = shapes.map((shape, i) => ({ name: shapes.length === 1 ? name : `${name}:${i}`, shape, type }));
    this.#nodes.push({
      opType: operator,
      name,
      input: inputs.map((value) => value.name),
      output: outputs.map((value) => value.name),
      attribute: Object.entries(attributes).map(attributeOf),
    });
    return outputs;
  }

  /** The numbers of a tensor, float32; the same tensor is stored once. */
  weight(tensor: Tensor): OnnxValue {
    const known = this.#weights.get(tensor);
    if (known !== undefined) return known;
    // A parameter may have the name of the input.
    const name = this.#unused(this.#names.get(tensor) ?? [...this.#scope, 'constant'].join('/'));
    if (tensor.dtype !== 'float32')
      throw kindError('export a model', `${name} must be float32`, phrase(`it is ${tensor.dtype}; cast() converts`));
    // A copy: the file is encoded after others may have run.
    const data = hostCopy(tensor, 'export a model').slice() as Float32Array;
    return this.#store(tensor, name, data, tensor.shape, 'float32');
  }

  /** Numbers that are part of the graph. */
  constant(values: readonly number[], shape: readonly number[] = [values.length], type: OnnxType = 'float32'): OnnxValue {
    const key = `${type} ${shape.join()}: ${values.join()}`;
    const known = this.#weights.get(key);
    if (known !== undefined) return known;
    const data = type === 'float32' ? Float32Array.from(values) : BigInt64Array.from(values, BigInt);
    return this.#store(key, this.#unused('constant'), data, shape, type);
  }

  /** Whole numbers: axes, sizes and shapes. */
  whole(...values: number[]): OnnxValue {
    return this.constant(values, [values.length], 'int64');
  }

  /** A value that several modules share, made the first time. */
  once(key: string, make: () => OnnxValue): OnnxValue {
    let value = this.#memo.get(key);
    if (value === undefined) this.#memo.set(key, (value = make()));
    return value;
  }

  /** The extent of one dimension when the model runs, int64 [1]. */
  extent(x: OnnxValue, axis: number): OnnxValue {
    const known = x.shape[axis]!;
    if (typeof known === 'number') return this.whole(known);
    return this.once(`extent ${known}`, () => this.nodes('Shape', [x], [[1]], { start: axis, end: axis + 1 }, 'int64')[0]!);
  }

  /**
   * What a module makes of a value.
   *
   * @param name of the module in the one it is part of
   */
  module(name: string, module: Module, x: OnnxValue): OnnxValue {
    return this.within(name, () => {
      const own = (module as Partial<OnnxTranslated>)[onnxTranslation];
      if (typeof own === 'function') return own.call(module, this, x);
      const translation = this.#translationOf(module);
      if (translation === undefined) throw this.unknown(module);
      return translation(this, module as never, x);
    });
  }

  /** Runs `make` with a name put before those of the nodes it adds. */
  within<T>(name: string, make: () => T): T {
    if (name !== '') this.#scope.push(name);
    try {
      return make();
    } finally {
      if (name !== '') this.#scope.pop();
    }
  }

  /** What is thrown for a module that cannot be translated. */
  unknown(module: Module): TypeError {
    const where = this.#scope.length === 0 ? 'the model' : `'${this.#scope.join('.')}'`;
    const kind = module.constructor.name.replace(/^_/, '');
    return kindError(
      'export a model',
      'every module must be one of limbeck.nn or have a method [onnxTranslation](builder, x)',
      phrase(`${where} is a ${kind}`),
    );
  }

  /** Refuses a value whose last extent is not the one that a module was made for. */
  checkWidth(x: OnnxValue, width: number): void {
    if (x.shape[x.shape.length - 1] === width) return;
    const where = this.#scope.length === 0 ? 'the model' : `'${this.#scope.join('.')}'`;
    throw valueError('export a model', `${where} must get ${width} columns`, phrase(`it gets shape ${shapeText(x.shape as number[])}`));
  }

  /** @internal The graph as onnx-proto's GraphProto takes it. */
  graph(name: string, inputs: readonly OnnxValue[], outputs: Record<string, OnnxValue>): object {
    // Outputs have names of their own; a value may be several of them.
    const renamed = Object.entries(outputs).map(([output, value]) => {
      this.#nodes.push({ opType: 'Identity', name: output, input: [value.name], output: [output], attribute: [] });
      return { ...value, name: output };
    });
    return {
      name,
      node: this.#nodes,
      initializer: this.#initializers,
      input: inputs.map(valueInfo),
      output: renamed.map(valueInfo),
    };
  }

  /** Keeps a name for an input or output. */
  reserve(name: string): void {
    this.#used.set(name, 1);
  }

  #store(key: Tensor | string, name: string, data: Float32Array | BigInt64Array, shape: readonly number[], type: OnnxType): OnnxValue {
    const rawData = bytesOf(data as Float32Array);
    this.weightBytes += rawData.byteLength;
    this.#initializers.push({ name, dims: [...shape], dataType: elementTypes[type], rawData });
    const value = { name, shape, type };
    this.#weights.set(key, value);
    return value;
  }

  #unused(name: string): string {
    const count = this.#used.get(name) ?? 0;
    this.#used.set(name, count + 1);
    return count === 0 ? name : `${name}_${count}`;
  }
}
