// Seeded data for tests: the same seed gives the same numbers on every machine.

export type Random = () => number;

/** Uniform in [0, 1), 32 bits of state (mulberry32). */
export function random(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

export function gaussian(next: Random): number {
  return Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
}

export function normals(seed: number, size: number, spread = 1, mean = 0): Float32Array {
  const next = random(seed);
  const out = new Float32Array(size);
  for (let i = 0; i < size; i++) out[i] = mean + spread * gaussian(next);
  return out;
}

export function uniforms(seed: number, size: number, low = 0, high = 1): Float32Array {
  const next = random(seed);
  const out = new Float32Array(size);
  for (let i = 0; i < size; i++) out[i] = low + (high - low) * next();
  return out;
}

export function integers(seed: number, size: number, low: number, high: number): Int32Array {
  const next = random(seed);
  return Int32Array.from({ length: size }, () => low + Math.floor((high - low) * next()));
}
