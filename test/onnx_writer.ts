// Protocol buffers, as much as a small ONNX model needs.

const varint = (value: number): number[] => (value < 128 ? [value] : [(value & 127) | 128, ...varint(Math.floor(value / 128))]);
const int = (field: number, value: number): number[] => [...varint(field * 8), ...varint(value)];
const bytes = (field: number, value: number[] | string): number[] => {
  const raw = typeof value === 'string' ? [...Buffer.from(value)] : value;
  return [...varint(field * 8 + 2), ...varint(raw.length), ...raw];
};

const types = { float32: 1, int64: 7, float16: 10 };
export type ElementType = keyof typeof types;

function named(field: number, name: string, type: ElementType, rank: number): number[] {
  const dims = Array.from({ length: rank }, (_, i) => bytes(1, bytes(2, `${name}_${i}`))).flat();
  return bytes(field, [...bytes(1, name), ...bytes(2, bytes(1, [...int(1, types[type]), ...bytes(2, dims)]))]);
}

export const input = (name: string, type: ElementType, rank = 2): number[] => named(11, name, type, rank);
export const output = (name: string, type: ElementType, rank = 2): number[] => named(12, name, type, rank);

export const node = (op: string, inputs: string[], to: string, attribute: number[] = []): number[] =>
  bytes(1, [...inputs.flatMap((name) => bytes(1, name)), ...bytes(2, to), ...bytes(4, op), ...attribute]);

export const castTo = (type: ElementType): number[] => bytes(5, [...bytes(1, 'to'), ...int(3, types[type]), ...int(20, 2)]);

/** Numbers that are part of the model. */
export function constant(name: string, dims: number[], values: number[]): number[] {
  const raw = [...new Uint8Array(Float32Array.from(values).buffer)];
  return bytes(5, [...dims.flatMap((extent) => int(1, extent)), ...int(2, 1), ...bytes(8, name), ...bytes(9, raw)]);
}

export const onnxModel = (...graph: number[][]): Uint8Array =>
  Uint8Array.from([...int(1, 8), ...bytes(7, [...graph.flat(), ...bytes(2, 'test')]), ...bytes(8, [...bytes(1, ''), ...int(2, 13)])]);
