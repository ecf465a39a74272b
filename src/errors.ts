// Error classes and their wording: "Cannot <action>: <what must hold>: <what it was>".

/** Stable codes of a {@link LimbeckError}. */
export type ErrorCode =
  | 'no_binary'
  | 'not_built'
  | 'no_driver'
  | 'driver_too_old'
  | 'no_device'
  | 'unsupported_architecture'
  | 'out_of_memory'
  | 'device_error'
  | 'wrong_device'
  | 'bad_file'
  | 'wrong_target'
  | 'not_available'
  | (string & {});

/**
 * What goes wrong outside the arguments: devices, files, the binary itself.
 * Arguments of the wrong kind throw a `TypeError`, wrong values a `RangeError`.
 */
export class LimbeckError extends Error {
  /** Stable name of the cause, for programs. */
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'LimbeckError';
    this.code = code;
  }
}

export function wording(action: string, mustHold: string, was?: string): string {
  return was === undefined ? `Cannot ${action}: ${mustHold}` : `Cannot ${action}: ${mustHold}: ${was}`;
}

/** The argument is of the wrong kind. */
export function kindError(action: string, mustHold: string, was?: unknown): TypeError {
  return new TypeError(wording(action, mustHold, arguments.length < 3 ? undefined : describe(was)));
}

/** The argument is of the right kind with a value that cannot be used. */
export function valueError(action: string, mustHold: string, was?: unknown): RangeError {
  return new RangeError(wording(action, mustHold, arguments.length < 3 ? undefined : describe(was)));
}

/** A name of the contract whose kernel does not exist yet. */
export function notAvailable(action: string, what: string): LimbeckError {
  return new LimbeckError('not_available', wording(action, `${what} is not available yet`));
}

/** A short text for any value: what the reader of the message typed, not its contents. */
export function describe(value: unknown): string {
  if (value instanceof Phrase) return value.text;
  if (typeof value === 'string') return `it is '${value.length > 60 ? `${value.slice(0, 57)}...` : value}'`;
  if (value === undefined) return 'it is missing';
  if (value === null || typeof value === 'number' || typeof value === 'boolean') return `it is ${value}`;
  if (typeof value === 'bigint') return `it is ${value}n`;
  if (typeof value === 'symbol' || typeof value === 'function') return `it is a ${typeof value}`;
  try {
    if (Array.isArray(value)) {
      if (value.length <= 8 && value.every((entry) => typeof entry === 'number')) return `it is [${value.join(', ')}]`;
      return `it is an array of ${value.length}`;
    }
    const name: unknown = (value as { constructor?: { name?: unknown } }).constructor?.name;
    // Bundlers put an underscore before a class that speaks of itself.
    return typeof name === 'string' && name !== '' && name !== 'Object' ? `it is a ${name.replace(/^_/, '')}` : 'it is an object';
  } catch {
    return 'it is an object';
  }
}

/** Wraps a text so that {@link describe} gives it back unchanged. */
export class Phrase {
  constructor(readonly text: string) {}
}

export function phrase(text: string): Phrase {
  return new Phrase(text);
}

export function shapeText(shape: readonly number[]): string {
  return `[${shape.join(', ')}]`;
}

/** The nearest of `names` to a mistyped one, or the one it abbreviates (lr), or undefined where nothing is near. */
export function nearest(name: string, names: Iterable<string>): string | undefined {
  const initials = (words: string): string => words.replace(/(?<=.)[a-z0-9]/g, '').toLowerCase();
  let best: string | undefined;
  let least = Math.max(2, Math.floor(name.length / 3)) + 1;
  for (const candidate of names) {
    if (name.length > 1 && name.toLowerCase() === initials(candidate)) return candidate;
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (distance < least) {
      least = distance;
      best = candidate;
    }
  }
  return best;
}

function editDistance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > 20) return Infinity;
  let previous = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      row.push(Math.min(previous[j]! + 1, row[j - 1]! + 1, previous[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    previous = row;
  }
  return previous[b.length]!;
}
