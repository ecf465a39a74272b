// What training and encoding by byte pairs share: pairs as numbers, and a heap of numbers in order.

/** Ids are below 2²¹, so that a pair is a whole number of a double. */
export const mostTokens = 2 ** 21;

export const pairOf = (left: number, right: number): number => left * mostTokens + right;
export const leftOf = (pair: number): number => Math.floor(pair / mostTokens);
export const rightOf = (pair: number): number => pair % mostTokens;

/** A binary heap of (key, value): the smallest key comes first, the smallest value among equals. */
export class PairHeap {
  #keys: number[] = [];
  #values: number[] = [];

  get size(): number {
    return this.#keys.length;
  }

  clear(): void {
    this.#keys.length = this.#values.length = 0;
  }

  push(key: number, value: number): void {
    const keys = this.#keys;
    const values = this.#values;
    let at = keys.length;
    keys.push(key);
    values.push(value);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (keys[parent]! < key || (keys[parent] === key && values[parent]! <= value)) break;
      keys[at] = keys[parent]!;
      values[at] = values[parent]!;
      at = parent;
    }
    keys[at] = key;
    values[at] = value;
  }

  /** The first entry, taken out. */
  pop(): { key: number; value: number } | undefined {
    const keys = this.#keys;
    const values = this.#values;
    if (keys.length === 0) return undefined;
    const first = { key: keys[0]!, value: values[0]! };
    const key = keys.pop()!;
    const value = values.pop()!;
    const size = keys.length;
    if (size > 0) {
      let at = 0;
      for (;;) {
        let child = 2 * at + 1;
        if (child >= size) break;
        const other = child + 1;
        if (other < size && (keys[other]! < keys[child]! || (keys[other] === keys[child] && values[other]! < values[child]!)))
          child = other;
        if (key < keys[child]! || (key === keys[child] && value <= values[child]!)) break;
        keys[at] = keys[child]!;
        values[at] = values[child]!;
        at = child;
      }
      keys[at] = key;
      values[at] = value;
    }
    return first;
  }
}
