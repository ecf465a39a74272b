// The comparator of every numeric test: kind of number first, then !(error <= bound), and the five worst in the message.

export type Bound = number | ((index: number) => number);

function kind(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  if (value === Infinity) return '+inf';
  if (value === -Infinity) return '-inf';
  return 'finite';
}

interface Miss {
  index: number;
  actual: number;
  expected: number;
  error: number;
  bound: number;
}

/** Throws unless every element is of the expected kind (finite, NaN, ±inf) and within its bound. */
export function expectClose(what: string, actual: ArrayLike<number>, expected: ArrayLike<number>, bound: Bound): void {
  if (actual.length !== expected.length) throw new Error(`${what}: ${actual.length} values instead of ${expected.length}`);
  const misses: Miss[] = [];
  for (let index = 0; index < expected.length; index++) {
    const a = Number(actual[index]);
    const e = Number(expected[index]);
    const b = typeof bound === 'number' ? bound : bound(index);
    // Almost all there are: both finite, and near enough.
    const error = Math.abs(a - e);
    if (error <= b && error < Infinity) continue;
    const sort = kind(e);
    if (kind(a) !== sort) misses.push({ index, actual: a, expected: e, error: Infinity, bound: b });
    else if (sort === 'finite' && !(Math.abs(a - e) <= b)) misses.push({ index, actual: a, expected: e, error: Math.abs(a - e), bound: b });
  }
  if (misses.length === 0) return;
  misses.sort((x, y) => excess(y) - excess(x));
  const lines = misses
    .slice(0, 5)
    .map(
      (m) => `  [${m.index}] ${m.actual} instead of ${m.expected}: error ${m.error.toExponential(3)}, bound ${m.bound.toExponential(3)}`,
    );
  throw new Error(`${what}: ${misses.length} of ${expected.length} values are off\n${lines.join('\n')}`);
}

function excess(miss: Miss): number {
  if (!Number.isFinite(miss.error) || !(miss.bound > 0)) return Infinity;
  return miss.error / miss.bound;
}

/** Throws unless both hold the same bits: NaN equals NaN only with the same payload, −0 is not +0. */
export function expectSameBits(what: string, actual: ArrayBufferView, expected: ArrayBufferView): void {
  const a = new Uint8Array(actual.buffer, actual.byteOffset, actual.byteLength);
  const e = new Uint8Array(expected.buffer, expected.byteOffset, expected.byteLength);
  if (a.length !== e.length) throw new Error(`${what}: ${a.length} bytes instead of ${e.length}`);
  if (Buffer.compare(a, e) === 0) return;
  for (let i = 0; i < e.length; i++)
    if (a[i] !== e[i]) {
      const width = (expected as Float32Array).BYTES_PER_ELEMENT ?? 1;
      const index = Math.floor(i / width);
      const value = (view: ArrayBufferView): unknown => (view as Float32Array)[index];
      throw new Error(`${what}: bits differ first at [${index}]: ${String(value(actual))} and ${String(value(expected))}`);
    }
}

export function expectAll(what: string, values: ArrayLike<number>, holds: (value: number) => boolean, wanted: string): void {
  for (let i = 0; i < values.length; i++)
    if (!holds(values[i] as number)) throw new Error(`${what}: [${i}] must be ${wanted}: it is ${values[i]}`);
}

export function expectTrue(what: string, condition: boolean): void {
  if (!condition) throw new Error(what);
}

export function expectEqual(what: string, actual: unknown, expected: unknown): void {
  const show = (value: unknown): string =>
    ArrayBuffer.isView(value) ? `[${Array.from(value as Float32Array).join(', ')}]` : (JSON.stringify(value) ?? String(value));
  if (show(actual) !== show(expected)) throw new Error(`${what}: ${show(actual)} instead of ${show(expected)}`);
}

/** Throws unless fn throws an error of this class whose message matches. Returns the error. */
export function expectThrows(what: string, fn: () => unknown, type: new (...args: never[]) => Error, message: RegExp): Error {
  let thrown: unknown;
  try {
    fn();
  } catch (error) {
    thrown = error;
  }
  if (thrown === undefined) throw new Error(`${what}: nothing was thrown`);
  if (!(thrown instanceof type)) throw new Error(`${what}: ${String(thrown)} is not a ${type.name}`);
  if (!message.test(thrown.message)) throw new Error(`${what}: the message is "${thrown.message}", not ${String(message)}`);
  return thrown;
}
