// One POST of JSON to a model server: what can go wrong, and which of it may pass.
import { LimbeckError } from '../errors.js';

/** A failure of an endpoint. */
export class EndpointError extends LimbeckError {
  /** HTTP status, or null where there was no answer. */
  readonly status: number | null;
  /** Whether it may pass by itself. */
  readonly mayPass: boolean;
  /** Milliseconds that the server asks to wait. */
  readonly retryAfter: number | null;

  constructor(code: string, message: string, from: { status?: number; mayPass: boolean; retryAfter?: number | null; cause?: unknown }) {
    super(code, message, { cause: from.cause });
    this.name = 'EndpointError';
    this.status = from.status ?? null;
    this.mayPass = from.mayPass;
    this.retryAfter = from.retryAfter ?? null;
  }
}

/** Too many requests, timeouts, conflicts; and whatever the server blames on itself. */
const passing = new Set([408, 409, 425, 429]);

export interface PostOptions {
  headers: Record<string, string>;
  /** Milliseconds until the last byte. */
  timeout: number;
  /** Bytes of an answer. */
  maxBytes: number;
  signal: AbortSignal;
}

/**
 * The JSON that an endpoint answers with.
 *
 * @throws EndpointError `endpoint_timeout`, `endpoint_unreachable`, `endpoint_failed` (may pass), `endpoint_refused` (will not); the signal's reason
 */
export async function post(url: string, body: string, options: PostOptions): Promise<unknown> {
  const { headers, timeout, maxBytes, signal } = options;
  const action = `ask ${shortUrl(url)}`;
  const clock = AbortSignal.timeout(timeout);
  let text: string;
  let response: Response;
  try {
    response = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'application/json', ...headers },
      body,
      signal: AbortSignal.any([signal, clock]),
    });
    text = await bodyOf(action, response, maxBytes);
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof LimbeckError) throw error;
    if (clock.aborted)
      throw new EndpointError('endpoint_timeout', `Cannot ${action}: it must answer within ${timeout} ms: it did not`, {
        mayPass: true,
        cause: error,
      });
    const { message, cause } = error as Error & { cause?: Error };
    throw new EndpointError('endpoint_unreachable', `Cannot ${action}: the connection must hold: ${cause?.message || message}`, {
      mayPass: true,
      cause: error,
    });
  }
  const { status } = response;
  if (!response.ok) {
    const mayPass = passing.has(status) || status >= 500;
    throw new EndpointError(
      mayPass ? 'endpoint_failed' : 'endpoint_refused',
      `Cannot ${action}: it must answer with status 200: it was ${status}${excerpt(text)}`,
      { status, mayPass, retryAfter: retryAfterOf(response.headers.get('retry-after')) },
    );
  }
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new EndpointError(
      'endpoint_failed',
      `Cannot ${action}: its answer must be whole JSON: ${(error as Error).message}${excerpt(text)}`,
      {
        status,
        mayPass: true,
        cause: error,
      },
    );
  }
}

async function bodyOf(action: string, response: Response, maxBytes: number): Promise<string> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of (response.body ?? []) as AsyncIterable<Uint8Array>) {
    size += part.length;
    if (size > maxBytes)
      throw new EndpointError('endpoint_refused', `Cannot ${action}: its answer must have at most ${maxBytes} bytes: it has more`, {
        status: response.status,
        mayPass: false,
      });
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

function excerpt(text: string): string {
  const short = text.replace(/\s+/g, ' ').trim().slice(0, 200);
  return short === '' ? ' (it is empty)' : ` (${short})`;
}

/** Milliseconds, from seconds or from a date. */
function retryAfterOf(value: string | null): number | null {
  if (value === null) return null;
  if (/^\d+(\.\d+)?$/.test(value.trim())) return Number(value) * 1000;
  const at = Date.parse(value);
  return Number.isNaN(at) ? null : Math.max(0, at - Date.now());
}

/** Without what may be secret: user, password and query. */
function shortUrl(url: string): string {
  const { origin, pathname } = new URL(url);
  return origin + pathname;
}
