// What the case files run against: the built module, the addon under it, a device; and memory of the test's own on that device.
import { expectTrue } from './compare.js';

export type TypedArray = Float32Array | Float64Array | Int32Array | Uint8Array | Uint16Array | Int16Array;

/** A typed array on the CPU, a device buffer on CUDA. */
export interface DeviceBuffer {
  readonly size: number;
  readonly dtype: string;
  readonly bytes: number;
  free(): void;
}

type Single = TypedArray | DeviceBuffer | number | boolean | null | undefined;
export type Argument = Single | readonly Single[];

/** What the addon exports (native/binding.cpp). */
export interface Native {
  kernels: Record<string, (...args: Argument[]) => void>;
  schema: Record<string, string>;
  codes: Record<string, string[]>;
  info(): {
    version: string;
    instructionSet: string;
    instructionSets: string[];
    instructionSetError: string | null;
    threads: number;
    matrixProduct: string;
    cuda: { built: boolean; emulated: boolean; code: string; reason: string; devices: { name: string; usable: boolean }[] };
  };
  setThreads(count: number): void;
  allocate(device: number, dtype: string, size: number): DeviceBuffer;
  upload(buffer: DeviceBuffer, array: TypedArray): void;
  download(buffer: DeviceBuffer, array: TypedArray): void;
}

export type Limbeck = typeof import('../src/index.js');
export type Raw = typeof import('../src/raw.js');

/** The thing under test. limbeck and raw are the public modules, native the addon they loaded. */
export interface Subject {
  limbeck: Limbeck;
  raw: Raw;
  native: Native;
  device: 'cpu' | 'cuda';
}

/** One check of a case file: it throws when the subject is wrong. */
export interface Check {
  name: string;
  run(subject: Subject): void | Promise<void>;
  /** Left out under the sanitizers: other checks run the same code there. */
  unsanitized?: boolean;
}

/** A shape worth timing. */
export interface BenchShape {
  rows: number;
  cols: number;
  k?: number;
}

/** All that a case file says about one op. */
export interface CaseFile {
  op: string;
  /** Kernels of native/kernels.inc that these checks run. */
  kernels: string[];
  checks: Check[];
  bench: BenchShape[];
}

/** Code of a name in one of the addon's lists. */
export function codeOf(native: Native, list: string, name: string): number {
  const code = native.codes[list]?.indexOf(name) ?? -1;
  if (code < 0) throw new Error(`no ${name} among ${list}: ${native.codes[list]?.join(', ')}`);
  return code;
}

const GUARD = 64;
const GUARD_BYTE = 0xab;
const DTYPES: [new (size: number) => TypedArray, string][] = [
  [Float32Array, 'float32'],
  [Float64Array, 'float64'],
  [Int32Array, 'int32'],
  [Uint8Array, 'uint8'],
  [Uint16Array, 'float16'],
  [Int16Array, 'bfloat16'],
];

interface Block {
  argument: TypedArray | DeviceBuffer;
  template: TypedArray;
  /** CPU: the whole buffer with the guard zones around the tensor. */
  whole: Uint8Array | null;
  at: number;
  /** CUDA: elements after the tensor that hold the guard pattern. */
  beyond: number;
}

/** Memory of one check: every tensor lies between guard zones, and outputs begin as NaN. */
export class Memory {
  private readonly blocks = new Map<TypedArray | DeviceBuffer, Block>();

  constructor(
    readonly native: Native,
    readonly device: 'cpu' | 'cuda',
  ) {}

  /** A copy of the values, `offset` elements past an aligned address (CPU only: a device buffer is always aligned). */
  input<A extends TypedArray>(values: A, offset = 0): A {
    return this.place(values, offset) as A;
  }

  /** size elements of NaN (integers: a pattern no kernel writes; 16 bits are a half type). */
  output<A extends TypedArray>(type: new (size: number) => A, size: number, offset = 0): A {
    const values = new type(size);
    // 0x7fff is NaN in both half types.
    const isHalf = values instanceof Uint16Array || values instanceof Int16Array;
    values.fill(values instanceof Float32Array || values instanceof Float64Array ? NaN : isHalf ? 0x7fff : 0x5a);
    return this.place(values, offset) as A;
  }

  private place(values: TypedArray, offset: number): TypedArray {
    const type = values.constructor as new (buffer: ArrayBuffer, at: number, size: number) => TypedArray;
    const width = values.BYTES_PER_ELEMENT;
    if (this.device === 'cpu') {
      const at = GUARD + offset * width;
      const whole = new Uint8Array(at + values.byteLength + GUARD).fill(GUARD_BYTE);
      const view = new type(whole.buffer as ArrayBuffer, at, values.length);
      view.set(values as never);
      this.blocks.set(view, { argument: view, template: values, whole, at, beyond: 0 });
      return view;
    }
    const dtype = (DTYPES.find(([type]) => values instanceof type) as [unknown, string])[1];
    const beyond = GUARD / width;
    const padded = new (values.constructor as new (size: number) => TypedArray)(values.length + beyond);
    new Uint8Array(padded.buffer).fill(GUARD_BYTE);
    padded.set(values as never);
    const buffer = this.native.allocate(0, dtype, padded.length);
    this.native.upload(buffer, padded);
    this.blocks.set(buffer, { argument: buffer, template: values, whole: null, at: 0, beyond });
    return buffer as unknown as TypedArray;
  }

  /** What a tensor holds now, copied; its guard zones must be as they were. */
  read<A extends TypedArray>(tensor: A): A {
    const block = this.blocks.get(tensor) as Block;
    if (block.whole !== null) {
      const view = block.argument as TypedArray;
      const end = block.at + view.byteLength;
      for (let i = 0; i < block.whole.length; i++) {
        if (i === block.at) i = end;
        if (i < block.whole.length && block.whole[i] !== GUARD_BYTE)
          throw new Error(
            `${i < block.at ? 'before' : 'after'} the tensor: a byte was overwritten, ${i < block.at ? block.at - i : i - end + 1} away`,
          );
      }
      return (view as A).slice() as A;
    }
    const padded = new (block.template.constructor as new (size: number) => A)(block.template.length + block.beyond);
    this.native.download(block.argument as DeviceBuffer, padded);
    const tail = padded.subarray(block.template.length);
    new Uint8Array(tail.buffer, tail.byteOffset, tail.byteLength).forEach((byte, i) =>
      expectTrue(`after the tensor: byte ${i} was overwritten`, byte === GUARD_BYTE),
    );
    return padded.slice(0, block.template.length) as A;
  }

  free(): void {
    for (const { argument } of this.blocks.values()) if ('free' in argument) argument.free();
    this.blocks.clear();
  }
}

/** Runs fn with memory on the subject's device and gives the memory back. */
export function withMemory<R>(subject: Subject, fn: (memory: Memory) => R): R {
  const memory = new Memory(subject.native, subject.device);
  try {
    return fn(memory);
  } finally {
    memory.free();
  }
}

/** Calls a kernel and returns what its outputs hold. */
export function kernel(subject: Subject, name: string, ...args: Argument[]): void {
  const call = subject.native.kernels[name];
  if (call === undefined) throw new Error(`the addon has no kernel ${name}`);
  call(...args);
}
