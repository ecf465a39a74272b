// The bench's memory on the device under test, and what it is filled with.
import { findCode, type DeviceBuffer, type Handle, type Native } from '../native.js';

export type BenchDType = 'float32' | 'bfloat16' | 'float16';

/** Numbers there are before they repeat: not a multiple of any row, so that no two rows are the same. */
const PERIOD = 2 ** 20 + 7;

const WIDTH = { float32: 4, bfloat16: 2, float16: 2, int32: 4 };

const periods = new Map<number, Float32Array>();

/** Logits with a spread like a trained model's: sums of three uniform numbers times 3. */
function period(seed: number): Float32Array {
  const known = periods.get(seed);
  if (known !== undefined) return known;
  let state = Math.imul(seed, 2_654_435_761) >>> 0 || 1;
  const next = (): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 4_294_967_296 - 0.5;
  };
  const values = Float32Array.from({ length: PERIOD }, () => 3 * (next() + next() + next()));
  periods.set(seed, values);
  return values;
}

/** Memory on one device, given back together. */
export class Arena {
  #buffers: DeviceBuffer[] = [];

  constructor(
    private readonly addon: Native,
    private readonly ordinal: number,
  ) {}

  /** Zeros. */
  zeros(dtype: BenchDType | 'int32', size: number): Handle {
    if (this.ordinal < 0) {
      if (dtype === 'int32') return new Int32Array(size);
      // An Int16Array stands for bfloat16.
      return dtype === 'float32' ? new Float32Array(size) : dtype === 'bfloat16' ? new Int16Array(size) : new Uint16Array(size);
    }
    const buffer = this.addon.allocate(this.ordinal, dtype, size);
    this.#buffers.push(buffer);
    this.addon.kernels.fill(buffer, size, 0);
    return buffer;
  }

  /** Numbers of the host's. */
  copied(dtype: 'float32' | 'int32', values: Float32Array | Int32Array): Handle {
    const out = this.zeros(dtype, values.length);
    if ('free' in out) this.addon.upload(out, values);
    else out.set(values);
    return out;
  }

  /** Logits of a dtype; another seed, other ones. */
  logits(dtype: BenchDType, size: number, seed: number): Handle {
    const out = this.zeros(dtype, size);
    this.overwrite(out, dtype, size, seed);
    return out;
  }

  /** Fills memory with logits: a period of them, then copies of what is there, doubling. */
  overwrite(out: Handle, dtype: BenchDType, size: number, seed: number): void {
    const { addon } = this;
    const first = Math.min(size, PERIOD);
    const host = period(seed).subarray(0, first);
    const copyCode = findCode('unary', 'copy');
    if (!('free' in out)) {
      addon.kernels.unary(host, out, first, copyCode, 0);
      for (let done = first; done < size; done *= 2) out.copyWithin(done, 0, Math.min(done, size - done));
      return;
    }
    const from = addon.allocate(this.ordinal, 'float32', first);
    addon.upload(from, host);
    addon.kernels.unary(from, out, first, copyCode, 0);
    from.free();
    const at = addon.address(out);
    for (let done = first; done < size; done *= 2) {
      const count = Math.min(done, size - done);
      const to = addon.borrow(this.ordinal, dtype, count, at + BigInt(done * WIDTH[dtype]));
      addon.copy(to, addon.borrow(this.ordinal, dtype, count, at));
    }
  }

  /** Gives back what was made since the last time. */
  free(): void {
    this.release()();
  }

  /** Lets go of what was made; the function that comes back frees it. */
  release(): () => void {
    const buffers = this.#buffers;
    this.#buffers = [];
    return () => {
      for (const buffer of buffers) buffer.free();
      if (this.ordinal >= 0 && buffers.length > 0) this.addon.trim(this.ordinal);
    };
  }
}
