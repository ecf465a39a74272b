// Optimiser steps over lists of tensors: one call must give the bits that a call for each tensor gives, whatever the lists hold.
import { expectSameBits, expectThrows } from '../compare.js';
import { normals } from '../random.js';
import { kernel, withMemory, type Check, type Memory, type Subject } from '../subject.js';

/** An optimiser's kernel: lists of parameters, gradients, `buffers` of state and masks, sizes, then its numbers. */
export interface ListedKernel {
  op: string;
  buffers: number;
  numbers: readonly number[];
}

// More tensors than one launch takes, empty ones among them, and some around the run that a block takes at a time (4096).
const SIZES = [
  ...Array.from({ length: 60 }, (_, i) => (11 * i) % 37),
  4095,
  4096,
  4097,
  12_289,
  ...Array.from({ length: 100 }, (_, i) => (i % 5 === 0 ? 0 : i)),
];

interface Lists {
  parameters: Float32Array[];
  gradients: Float32Array[];
  buffers: Float32Array[][];
  masks: (Float32Array | null)[];
}

function lists(memory: Memory, { buffers }: ListedKernel): Lists {
  const list = (seed: number): Float32Array[] => SIZES.map((size, i) => memory.input(normals(seed + i, size)));
  return {
    parameters: list(1),
    gradients: list(1000),
    buffers: Array.from({ length: buffers }, (_, b) =>
      SIZES.map((size, i) => memory.input(normals(2000 + 500 * b + i, size).map(Math.abs))),
    ),
    masks: SIZES.map((size, i) => (i % 3 === 0 ? memory.input(Float32Array.from({ length: size }, (_, j) => Number(j % 4 !== 0))) : null)),
  };
}

export function listChecks(listed: ListedKernel): Check[] {
  const call = (subject: Subject, { parameters, gradients, buffers, masks }: Lists, sizes: number[]): void =>
    kernel(subject, listed.op, parameters, gradients, ...buffers, masks, sizes, ...listed.numbers);
  return [
    {
      name: 'many tensors in one call: the bits of a call for each',
      run(subject) {
        withMemory(subject, (memory) => {
          const [together, apart] = [lists(memory, listed), lists(memory, listed)];
          call(subject, together, SIZES);
          for (const [i, size] of SIZES.entries())
            call(
              subject,
              {
                parameters: [apart.parameters[i]!],
                gradients: [apart.gradients[i]!],
                buffers: apart.buffers.map((list) => [list[i]!]),
                masks: [apart.masks[i]!],
              },
              [size],
            );
          for (const [i, size] of SIZES.entries()) {
            expectSameBits(`parameter ${i} of ${size}`, memory.read(together.parameters[i]!), memory.read(apart.parameters[i]!));
            for (const [b, list] of together.buffers.entries())
              expectSameBits(`state ${b} of parameter ${i} of ${size}`, memory.read(list[i]!), memory.read(apart.buffers[b]![i]!));
          }
        });
      },
    },
    {
      name: 'lists that do not fit are refused, and nothing is changed',
      run(subject) {
        withMemory(subject, (memory) => {
          const start = normals(1, 4);
          const of = (size: number): Float32Array[] => [memory.input(start), memory.input(start.slice(0, size))];
          const good = (): Lists => ({
            parameters: of(4),
            gradients: of(4),
            buffers: Array.from({ length: listed.buffers }, () => of(4)),
            masks: [null, null],
          });
          const refuse = (
            what: string,
            lists: Lists,
            sizes: number[],
            type: typeof TypeError | typeof RangeError,
            message: RegExp,
          ): void => {
            expectThrows(what, () => call(subject, lists, sizes), type, message);
            expectSameBits(what, memory.read(lists.parameters[0]!), start);
          };
          refuse(
            'an entry is missing',
            { ...good(), gradients: [memory.input(start)] },
            [4, 4],
            RangeError,
            /gradients must have 2 entries: it has 1/,
          );
          refuse(
            'a tensor is absent',
            { ...good(), gradients: [memory.input(start), null as never] },
            [4, 4],
            TypeError,
            /gradients\[1\] must be a tensor/,
          );
          refuse('a size is negative', good(), [4, -1], RangeError, /a size must be a whole number/);
          refuse('a size is too large', good(), [4, 1000], RangeError, /parameters\[1\] must hold 1000 elements/);
          refuse(
            'a dtype',
            { ...good(), masks: [null, memory.input(new Int32Array(4)) as never] },
            [4, 4],
            TypeError,
            /masks\[1\] must be float32: it is int32/,
          );
          refuse('no list', { ...good(), masks: null as never }, [4, 4], TypeError, /masks must be an array/);
        });
      },
    },
  ];
}
