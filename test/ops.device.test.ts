// Every check of every case file on the device of LIMBECK_TEST_DEVICE ('cpu' unless set; 'cuda' may be the emulated one).
import { describe, test } from 'vitest';
import * as limbeck from '../src/index.js';
import { native } from '../src/native.js';
import * as raw from '../src/raw.js';
import { cases } from './cases/index.js';
import type { Native, Subject } from './subject.js';

const device = process.env.LIMBECK_TEST_DEVICE ?? 'cpu';
if (device !== 'cpu' && device !== 'cuda') throw new Error(`LIMBECK_TEST_DEVICE must be cpu or cuda: it is ${device}`);

const subject: Subject = { limbeck, raw, native: native() as unknown as Native, device };

// LIMBECK_TEST_PART=2/3: every third op from the second on, for runs that share the work between processes.
const [part = 1, parts = 1] = (process.env.LIMBECK_TEST_PART ?? '1/1').split('/').map(Number);
if (!(part >= 1 && part <= parts)) throw new Error(`LIMBECK_TEST_PART must be n/m, n of 1 to m: it is ${process.env.LIMBECK_TEST_PART}`);

const chosen = cases.filter((_, i) => i % parts === part - 1);
const isSanitized = process.env.LIMBECK_SANITIZED !== undefined;
const all = chosen.flatMap(({ checks }) => checks);
if (isSanitized)
  process.stdout.write(
    `sanitized: ${all.filter(({ unsanitized }) => unsanitized !== true).length} of ${all.length} checks; the others run the same code with other numbers\n`,
  );

for (const { op, checks } of chosen)
  describe(op, () => {
    for (const { name, run, unsanitized } of checks)
      if (!(isSanitized && unsanitized === true)) test(`${op}: ${name}`, () => run(subject), 120_000);
  });
